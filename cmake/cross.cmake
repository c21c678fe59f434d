# Header-only packages of the build machine for a cross build. /usr/include as a whole must not be
# searched there: it holds the C library of the other architecture. So a folder with links to single
# packages stands in for it.
if(CMAKE_CROSSCOMPILING)
  find_path(HEED_NLOHMANN nlohmann/json.hpp PATHS /usr/include NO_CMAKE_FIND_ROOT_PATH)
  mark_as_advanced(HEED_NLOHMANN)
  if(HEED_NLOHMANN)
    set(stand_in ${PROJECT_BINARY_DIR}/header_only)
    file(MAKE_DIRECTORY ${stand_in})
    file(CREATE_LINK ${HEED_NLOHMANN}/nlohmann ${stand_in}/nlohmann SYMBOLIC)
    add_library(nlohmann_json::nlohmann_json INTERFACE IMPORTED)
    target_include_directories(nlohmann_json::nlohmann_json INTERFACE ${stand_in})
  endif()
endif()
