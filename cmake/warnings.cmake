# The warnings every target of the project is compiled with: link heed_warnings privately.
add_library(heed_warnings INTERFACE)
target_compile_options(heed_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wnon-virtual-dtor
  -Wold-style-cast -Wcast-align -Woverloaded-virtual
  # Options are aggregates with designated initialisers: leaving a field out is the point of them.
  -Wno-missing-field-initializers
  $<$<BOOL:${HEED_WERROR}>:-Werror>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # gcc 12 reports overlapping copies inside std::string's operator+ that cannot happen (bug 105651).
  target_compile_options(heed_warnings INTERFACE -Wno-restrict)
elseif(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  # clang calls every conversion from a 64-bit size to a float a loss; gcc's -Wconversion is enough.
  target_compile_options(heed_warnings INTERFACE -Wno-implicit-int-float-conversion)
endif()
