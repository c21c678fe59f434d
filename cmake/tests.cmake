# GoogleTest, rapidcheck, and heed_add_test: one executable, one ctest entry.

# GoogleTest is compiled from Debian's sources where they are, because the packaged binary fits
# neither a cross build nor a sanitizer build.
set(HEED_GTEST_SOURCE /usr/src/googletest CACHE PATH "GoogleTest's sources")
if(EXISTS ${HEED_GTEST_SOURCE}/googletest/src/gtest-all.cc)
  add_library(heed_gtest STATIC
    ${HEED_GTEST_SOURCE}/googletest/src/gtest-all.cc
    ${HEED_GTEST_SOURCE}/googlemock/src/gmock-all.cc
    ${HEED_GTEST_SOURCE}/googlemock/src/gmock_main.cc)
  target_include_directories(heed_gtest SYSTEM
    PUBLIC ${HEED_GTEST_SOURCE}/googletest/include ${HEED_GTEST_SOURCE}/googlemock/include
    PRIVATE ${HEED_GTEST_SOURCE}/googletest ${HEED_GTEST_SOURCE}/googlemock)
  target_compile_options(heed_gtest PRIVATE -w $<$<CONFIG:Release>:-O1> ${HEED_SANITIZED_O0})
  find_package(Threads REQUIRED)
  target_link_libraries(heed_gtest PUBLIC Threads::Threads)
else()
  find_package(GTest REQUIRED)
  add_library(heed_gtest INTERFACE)
  target_link_libraries(heed_gtest INTERFACE GTest::gmock GTest::gtest GTest::gmock_main)
endif()

# What most tests include, parsed once for each set of flags: a third of a test's compilation. Not in a
# debug build: there each test includes what it uses, or does not compile. clang writes files of another
# kind, which clang-tidy trips over.
set(HEED_TESTS_HEADERS <algorithm> <cmath> <cstdint> <cstring> <functional> <gtest/gtest.h> <limits>
                       <random> <set> <string> <tuple> <vector>)

set(HEED_TESTS_WITHOUT "" CACHE STRING "Checks of a sanitizer that the tests' own text is not compiled with")

# heed_test_options(target kind): what a test's own text is compiled with. kind: internal or public.
function(heed_test_options target kind)
  target_link_libraries(${target} PRIVATE heed_gtest heed_warnings)
  # What takes time is in the library and in verify; a test itself should be quick to compile.
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
  target_compile_options(${target} PRIVATE ${HEED_SANITIZED_O0})
  if(HEED_TESTS_WITHOUT)
    target_compile_options(${target} PRIVATE -fno-sanitize=${HEED_TESTS_WITHOUT})
  endif()
  if(CMAKE_BUILD_TYPE STREQUAL "Debug" OR NOT CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    return()
  endif()
  # In strings that come out of such a file gcc 12 sees copies beyond their ends that cannot happen.
  target_compile_options(${target} PRIVATE -Wno-array-bounds)
  if(HEED_CCACHE)
    # Without these ccache keeps nothing of a file that takes such headers.
    target_compile_options(${target} PRIVATE -fpch-preprocess)
    set_target_properties(${target} PROPERTIES CXX_COMPILER_LAUNCHER
      "${CMAKE_COMMAND};-E;env;CCACHE_SLOPPINESS=pch_defines,time_macros;${CMAKE_CXX_COMPILER_LAUNCHER}")
  endif()
  # A program of its own: who takes the headers of another target waits until that is linked.
  set(owner heed_headers_${kind})
  if(target STREQUAL owner)
    target_precompile_headers(${owner} PRIVATE ${HEED_TESTS_HEADERS})
    return()
  endif()
  if(NOT TARGET ${owner})
    file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/tests/no_tests.cpp CONTENT "")
    add_executable(${owner} EXCLUDE_FROM_ALL ${PROJECT_BINARY_DIR}/tests/no_tests.cpp)
    heed_test_options(${owner} ${kind})
  endif()
  target_precompile_headers(${target} REUSE_FROM ${owner})
endfunction()

# rapidcheck exists for the build machine only: a cross build leaves the property tests out.
if(NOT CMAKE_CROSSCOMPILING)
  find_package(rapidcheck QUIET)
endif()
if(NOT TARGET rapidcheck)
  message(STATUS "heed: no rapidcheck for this target; the property tests are left out")
endif()

option(HEED_SAMPLED_TESTS "Of long tests a part of the cases, as `make test` does with sanitizers" OFF)

# heed_add_test(NAME name SOURCES file... [LIBS target...] [RAPIDCHECK] [INTERNAL] [REDUCED]
#               [LABELS label...] [TIMEOUT seconds] [SAMPLE n] [ENVIRONMENT VAR=value...])
#   INTERNAL    may include headers of src/; everything else sees the public API alone
#   RAPIDCHECK  property tests: left out where rapidcheck is not
#   SAMPLE      with HEED_SAMPLED_TESTS every n-th of its cases alone, and of a property 30 calls. n should have
#               no factor in common with the numbers of engines and dtypes, so that each has its turn
#   REDUCED     the short sibling of a slow test, and a part of it: only where slow ones do not run
#   LABELS      beside those in HEED_TESTS_LABELS, which a folder's tests have in common.
#               threads: uses the pool, so it runs under the thread sanitizer
#               native: takes long where programs are emulated and depends little on the processor:
#               stays out there
#               values: compares numbers that come from calls which other tests make too: left out where
#               the reduced run looks at memory, that is under the address sanitizer
#               slow: left out of the reduced runs (sanitizers and emulation in `make test`)
# Target tests_<label> builds all tests of a label, tests_reduced all that are not slow.
function(heed_add_test)
  cmake_parse_arguments(PARSE_ARGV 0 arg "RAPIDCHECK;INTERNAL;REDUCED" "NAME;TIMEOUT;SAMPLE"
                        "SOURCES;LIBS;LABELS;ENVIRONMENT")
  if(arg_UNPARSED_ARGUMENTS OR NOT arg_NAME OR NOT arg_SOURCES)
    message(FATAL_ERROR "heed_add_test(${arg_NAME}): bad arguments ${arg_UNPARSED_ARGUMENTS}")
  endif()
  if(arg_RAPIDCHECK AND NOT TARGET rapidcheck)
    return()
  endif()
  if(arg_REDUCED AND NOT HEED_SANITIZE AND NOT CMAKE_CROSSCOMPILING)
    return()
  endif()
  list(APPEND arg_LABELS ${HEED_TESTS_LABELS})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()

  add_executable(${arg_NAME} ${arg_SOURCES})
  if(arg_INTERNAL)
    heed_test_options(${arg_NAME} internal)
  else()
    heed_test_options(${arg_NAME} public)
  endif()
  target_link_libraries(${arg_NAME} PRIVATE ${arg_LIBS} heed::heed)
  # tests/ itself for what tests share: cases.h, check.h.
  target_include_directories(${arg_NAME} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_compile_definitions(${arg_NAME} PRIVATE
    HEED_SOURCE_DIR="${PROJECT_SOURCE_DIR}" HEED_DATA_DIR="${PROJECT_SOURCE_DIR}/data"
    HEED_BINARY_DIR="${PROJECT_BINARY_DIR}/tests"
    $<$<BOOL:${arg_REDUCED}>:HEED_TEST_REDUCED> $<$<BOOL:${HEED_LONG_TESTS}>:HEED_LONG_TESTS>
    # An emulator of user programs forks and schedules differently from a kernel.
    $<$<BOOL:${CMAKE_CROSSCOMPILING}>:HEED_EMULATED=1>)
  if(arg_INTERNAL)
    target_include_directories(${arg_NAME} PRIVATE ${PROJECT_SOURCE_DIR}/src)
    heed_say_which_isas(${arg_NAME})
  endif()
  if(arg_RAPIDCHECK)
    target_include_directories(${arg_NAME} SYSTEM PRIVATE
      $<TARGET_PROPERTY:rapidcheck,INTERFACE_INCLUDE_DIRECTORIES>)
    target_link_libraries(${arg_NAME} PRIVATE rapidcheck)
  endif()
  if(HEED_SAMPLED_TESTS AND arg_SAMPLE)
    list(APPEND arg_ENVIRONMENT GTEST_TOTAL_SHARDS=${arg_SAMPLE} GTEST_SHARD_INDEX=0)
  endif()
  if(HEED_SAMPLED_TESTS AND arg_RAPIDCHECK)
    list(TRANSFORM arg_ENVIRONMENT REPLACE "^(RC_PARAMS=.*)" "\\1 max_success=30")
  endif()
  add_test(NAME ${arg_NAME} COMMAND ${arg_NAME})
  math(EXPR timeout "${arg_TIMEOUT} * ${HEED_TIMEOUT_FACTOR}")
  set_tests_properties(${arg_NAME} PROPERTIES
    LABELS "${arg_LABELS}" TIMEOUT ${timeout} ENVIRONMENT "${arg_ENVIRONMENT}")
  # Where two run at a time the long ones begin: none should be left alone at the end.
  if("slow" IN_LIST arg_LABELS)
    set_tests_properties(${arg_NAME} PROPERTIES COST 2)
  elseif("native" IN_LIST arg_LABELS)
    set_tests_properties(${arg_NAME} PROPERTIES COST 1)
  endif()
  foreach(label IN LISTS arg_LABELS)
    heed_add_to(tests_${label} ${arg_NAME})
  endforeach()
  if(NOT "slow" IN_LIST arg_LABELS
     AND NOT (CMAKE_CROSSCOMPILING AND "native" IN_LIST arg_LABELS)
     AND NOT (HEED_SANITIZE AND "values" IN_LIST arg_LABELS))
    heed_add_to(tests_reduced ${arg_NAME})
  endif()
endfunction()

# heed_split_portable(test filter): where programs are emulated, the cases in GoogleTest's filter are a test
# of their own, <name>_portable_test, that runs with the label native: what every processor has (scalar code, the
# reference) takes most of the time there.
function(heed_split_portable test filter)
  if(NOT CMAKE_CROSSCOMPILING)
    return()
  endif()
  set_tests_properties(${test} PROPERTIES ENVIRONMENT "GTEST_FILTER=-${filter}")
  string(REGEX REPLACE "_test$" "_portable_test" portable ${test})
  add_test(NAME ${portable} COMMAND ${test} --gtest_filter=${filter})
  set_tests_properties(${portable} PROPERTIES LABELS native TIMEOUT 3000)
endfunction()

function(heed_add_to group target)
  if(NOT TARGET ${group})
    add_custom_target(${group})
  endif()
  add_dependencies(${group} ${target})
endfunction()

# Instrumented and emulated programs are slower by about these factors.
set(HEED_TIMEOUT_FACTOR 1)
if(HEED_SANITIZE)
  set(HEED_TIMEOUT_FACTOR 5)
elseif(CMAKE_CROSSCOMPILING)
  set(HEED_TIMEOUT_FACTOR 10)
endif()
