// cli/tile_svg.h: a map of tiles in words and as a picture. Not here: the map (heed.h).
#pragma once

#include <string>

#include "bench/patterns.h"
#include "heed/heed.h"

namespace heed::cli {

/// "of 1,024 tiles 12.0 % full, 8.0 % edge, 80.0 % skipped"
std::string TileCounts(const TileTotals& totals);

/// What was said about arrays: "mask random:0.7, 16 lengths of 128 to 2048".
std::string Describe(const bench::Patterns& patterns);
/// The same behind what hides pairs by geometry: "causal, window 255,0, mask random:0.7".
std::string Describe(const Problem& problem, const bench::Patterns& patterns);

/// An SVG file. Where a side has more than 256 tiles, a cell of the picture stands for several.
std::string TileSvg(const TileMap& map, const std::string& title);

}  // namespace heed::cli
