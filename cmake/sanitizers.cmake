# HEED_SANITIZE and fuzzing apply to everything at once: a half-instrumented program reports nonsense.
if(HEED_SANITIZE)
  add_compile_options(-fsanitize=${HEED_SANITIZE} -fno-sanitize-recover=all
                      -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=${HEED_SANITIZE})
  # For what takes little time to run: instrumented, it takes several times as long to compile when it is
  # optimised. A fuzzer needs it quick.
  if(NOT HEED_BUILD_FUZZ)
    set(HEED_SANITIZED_O0 -O0)
  endif()
endif()
if(HEED_BUILD_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
