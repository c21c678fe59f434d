# heed_add_fuzzer: one libFuzzer program, one ctest entry that runs it for a while.
set(HEED_FUZZ_SECONDS 5 CACHE STRING "How long each fuzzer runs under ctest")

# heed_add_fuzzer(NAME name SOURCES file... [LIBS target...] [SEEDS folder])
# The corpus grows in the build tree; SEEDS is only read.
function(heed_add_fuzzer)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "NAME;SEEDS" "SOURCES;LIBS")
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "heed: fuzzers need clang (the preset `fuzz`)")
  endif()
  add_executable(${arg_NAME} ${arg_SOURCES})
  target_link_libraries(${arg_NAME} PRIVATE heed_warnings ${arg_LIBS} heed::heed)
  target_link_options(${arg_NAME} PRIVATE -fsanitize=fuzzer)
  set(corpus ${CMAKE_CURRENT_BINARY_DIR}/corpus_${arg_NAME})
  file(MAKE_DIRECTORY ${corpus})
  add_test(NAME ${arg_NAME}
           COMMAND ${arg_NAME} -max_total_time=${HEED_FUZZ_SECONDS} -timeout=10 -rss_limit_mb=4096
                   -print_final_stats=1 ${corpus} ${arg_SEEDS})
  math(EXPR timeout "${HEED_FUZZ_SECONDS} * 2 + 120")
  set_tests_properties(${arg_NAME} PROPERTIES TIMEOUT ${timeout} LABELS fuzz)
endfunction()
