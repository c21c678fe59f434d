# Installs heed, looks at what was installed, then builds and runs consumer/ against it.
cmake_minimum_required(VERSION 3.25)
set(prefix ${WORK}/prefix)

function(must)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "failed (${result}): ${ARGN}\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

file(REMOVE_RECURSE ${prefix} ${WORK}/consumer)
must(${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix})

# --- Only the public headers ------------------------------------------------------------------
file(GLOB_RECURSE installed RELATIVE ${prefix}/include ${prefix}/include/*)
file(GLOB_RECURSE public RELATIVE ${SOURCE}/include ${SOURCE}/include/*.h)
list(SORT installed)
list(SORT public)
if(NOT installed STREQUAL public)
  message(FATAL_ERROR "installed headers: ${installed}\npublic headers: ${public}")
endif()

# --- Only public symbols ----------------------------------------------------------------------
file(GLOB shared ${prefix}/lib*/libheed.so)
must(${NM} -DC --defined-only ${shared})
string(REGEX MATCHALL "[^\n]* heed::(cpu|reference|problem|score)::[^\n]*" inner "${output}")
if(inner OR NOT output MATCHES "heed::MakePlan")
  message(FATAL_ERROR "libheed.so should export the public functions alone, has: ${inner}")
endif()

# --- The consumer -----------------------------------------------------------------------------
must(${CMAKE_COMMAND} -S ${SOURCE}/tests/install/consumer -B ${WORK}/consumer -G ${GENERATOR}
     -DCMAKE_PREFIX_PATH=${prefix} -DCMAKE_CXX_COMPILER=${CXX} -DCMAKE_BUILD_TYPE=Release)
must(${CMAKE_COMMAND} --build ${WORK}/consumer)
foreach(program IN ITEMS static_17 static_20 shared_17 shared_20)
  must(${WORK}/consumer/${program})
  message(STATUS "${program}: ${output}")
  # Nothing but the C and C++ runtime.
  execute_process(COMMAND ldd ${WORK}/consumer/${program} OUTPUT_VARIABLE needs RESULT_VARIABLE result)
  if(result EQUAL 0)
    string(REGEX REPLACE "(linux-vdso|lib(heed|stdc\\+\\+|m|gcc_s|c|pthread|c\\+\\+|c\\+\\+abi)|ld-linux[^ ]*)\\.so[^\n]*" ""
           needs "${needs}")
    if(needs MATCHES "\\.so")
      message(FATAL_ERROR "${program} needs more than the standard library: ${needs}")
    endif()
  endif()
endforeach()
