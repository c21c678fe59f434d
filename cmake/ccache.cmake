# Uses ccache where it is installed, so that the five builds of `make test` are cheap the second time.
find_program(HEED_CCACHE ccache)
mark_as_advanced(HEED_CCACHE)
if(HEED_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${HEED_CCACHE})
endif()
