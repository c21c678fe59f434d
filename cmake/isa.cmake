# The instruction sets the kernels are compiled for: one row each, name and flags; and
# heed_add_isa_objects, which compiles one text once per row. Nothing outside such objects gets these
# flags, so that the library starts on any machine of its architecture.
include(CheckCXXCompilerFlag)

set(HEED_ONLY_ISAS "" CACHE STRING "Build kernels for these instruction sets alone (scalar is always there)")
set(HEED_ISAS "")

# heed_isa(name flags...): adds the row if the compiler knows every flag.
function(heed_isa name)
  if(HEED_ONLY_ISAS AND NOT name STREQUAL scalar AND NOT name IN_LIST HEED_ONLY_ISAS)
    return()
  endif()
  string(REPLACE ";" " " flags "${ARGN}")
  if(flags)
    set(CMAKE_REQUIRED_QUIET ON)
    check_cxx_compiler_flag("${flags}" HEED_COMPILER_KNOWS_${name})
    if(NOT HEED_COMPILER_KNOWS_${name})
      message(STATUS "heed: this compiler cannot build ${name} (${flags}); left out")
      return()
    endif()
  endif()
  set(HEED_ISAS ${HEED_ISAS} ${name} PARENT_SCOPE)
  set(HEED_ISA_FLAGS_${name} ${ARGN} PARENT_SCOPE)
endfunction()

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  set(avx2 -mavx2 -mfma -mf16c)
  set(avx512 ${avx2} -mavx512f -mavx512vl -mavx512bw -mavx512dq)
  heed_isa(avx512bf16 ${avx512} -mavx512bf16)
  heed_isa(avx512 ${avx512})
  heed_isa(avx2 ${avx2})
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64|ARM64)$")
  # Advanced SIMD is part of the AArch64 baseline: no flag.
  heed_isa(neon)
endif()
heed_isa(scalar)
message(STATUS "heed: kernels for ${HEED_ISAS}")

# Instrumented text takes minutes to compile at -O3, and finds nothing more.
set(HEED_KERNEL_OPTIMIZATION -O3 CACHE STRING "The kernels' optimisation where no sanitizer is on")
if(HEED_SANITIZE)
  set(HEED_KERNEL_OPTIMIZATION -O1)
endif()
set(HEED_KERNELS_WITHOUT "" CACHE STRING "A sanitizer that the kernels are not compiled with")
# The same text, once per instruction set. Not -ffast-math: NaN and infinity keep their meaning.
# -ffp-contract=off: a product and a sum are fused where the text says so, hence equally in every
# compiler. The same optimisation in every build type: a kernel at -O0 is a hundred times slower and
# spills its tile. No exceptions and no RTTI: a kernel cannot fail, and their tables would be weak symbols.
set(HEED_KERNEL_FLAGS ${HEED_KERNEL_OPTIMIZATION} -ffp-contract=off -fno-math-errno -fno-trapping-math
                      -fno-exceptions -fno-rtti)
if(HEED_KERNELS_WITHOUT)
  list(APPEND HEED_KERNEL_FLAGS -fno-sanitize=${HEED_KERNELS_WITHOUT})
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # Vector types as template arguments lose their attributes; our types never leave one object.
  # gcc 12 believes that the undefined registers inside its own AVX-512 header are a mistake.
  list(APPEND HEED_KERNEL_FLAGS -Wno-ignored-attributes -Wno-psabi -Wno-uninitialized
                                -Wno-maybe-uninitialized)
endif()
# heed_add_isa_objects(prefix source...): object libraries <prefix>_<isa>, one per row. The text sees
# HEED_ISA (the name, for its namespace) and HEED_ISA_<NAME>=1 (for the choice of its lanes header).
# HEED_KERNEL_OPTIMIZATION_<isa>, where it is set, holds for that row alone.
function(heed_add_isa_objects prefix)
  foreach(isa IN LISTS HEED_ISAS)
    string(TOUPPER ${isa} upper)
    add_library(${prefix}_${isa} OBJECT ${ARGN})
    target_link_libraries(${prefix}_${isa} PRIVATE heed_warnings)
    target_compile_definitions(${prefix}_${isa} PRIVATE HEED_ISA=${isa} HEED_ISA_${upper}=1)
    target_compile_options(${prefix}_${isa} PRIVATE ${HEED_KERNEL_FLAGS}
                           ${HEED_KERNEL_OPTIMIZATION_${isa}} ${HEED_ISA_FLAGS_${isa}})
    set_property(GLOBAL APPEND PROPERTY HEED_ISA_TARGETS ${prefix}_${isa})
  endforeach()
endfunction()

# heed_say_which_isas(target): HEED_HAVE_<NAME>=1 for every instruction set that is built.
function(heed_say_which_isas target)
  foreach(isa IN LISTS HEED_ISAS)
    string(TOUPPER ${isa} upper)
    target_compile_definitions(${target} PRIVATE HEED_HAVE_${upper}=1)
  endforeach()
endfunction()
