// cli/tile_svg.cpp: the picture of a map of tiles, small whatever the map's size. Not here: counting.
#include "cli/tile_svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "cli/words.h"

namespace heed::cli {
namespace {

// What a cell of the picture holds; kMixed only where it stands for several tiles.
enum Cell : std::uint8_t { kEmpty, kFull, kEdge, kMixed, kKinds };

struct Style {
  const char* name;
  const char* colour;
};
constexpr std::array<Style, kKinds> kStyles = {{
    {"skipped", "#e9ecef"},
    {"full", "#1b6ca8"},
    {"edge: masked", "#f4a259"},
    {"some full, the rest skipped", "#8fb8d6"},
}};

struct Cells {
  std::int64_t rows = 0, cols = 0;
  std::int64_t tiles_down = 1, tiles_across = 1;  // of a cell
  std::vector<Cell> kinds;
  bool has(Cell kind) const { return std::find(kinds.begin(), kinds.end(), kind) != kinds.end(); }
};

Cell KindOf(const TileMap& map, std::int64_t row, std::int64_t col, const Cells& cells) {
  bool empty = false, full = false;
  const std::int64_t last_row = std::min((row + 1) * cells.tiles_down, map.rows);
  const std::int64_t last_col = std::min((col + 1) * cells.tiles_across, map.cols);
  for (std::int64_t r = row * cells.tiles_down; r < last_row; ++r) {
    for (std::int64_t c = col * cells.tiles_across; c < last_col; ++c) {
      const Tile tile = map.At(r, c);
      if (tile == Tile::kEdge) return kEdge;
      (tile == Tile::kEmpty ? empty : full) = true;
    }
  }
  return empty && full ? kMixed : full ? kFull : kEmpty;
}

Cells Gather(const TileMap& map) {
  constexpr std::int64_t kMost = 256;
  Cells cells;
  cells.tiles_down = std::max<std::int64_t>((map.rows + kMost - 1) / kMost, 1);
  cells.tiles_across = std::max<std::int64_t>((map.cols + kMost - 1) / kMost, 1);
  cells.rows = (map.rows + cells.tiles_down - 1) / cells.tiles_down;
  cells.cols = (map.cols + cells.tiles_across - 1) / cells.tiles_across;
  for (std::int64_t r = 0; r < cells.rows; ++r) {
    for (std::int64_t c = 0; c < cells.cols; ++c) cells.kinds.push_back(KindOf(map, r, c, cells));
  }
  return cells;
}

// One path of all cells of a kind, neighbours of a row in one piece; units are cells.
std::string PathOf(const Cells& cells, Cell kind) {
  std::string path;
  for (std::int64_t r = 0; r < cells.rows; ++r) {
    const auto row = cells.kinds.begin() + r * cells.cols;
    for (std::int64_t c = 0; c < cells.cols;) {
      if (row[c] != kind) {
        ++c;
        continue;
      }
      std::int64_t end = c;
      while (end < cells.cols && row[end] == kind) ++end;
      path += fmt::format("M{} {}h{}v1h{}z", c, r, end - c, c - end);
      c = end;
    }
  }
  return path;
}

std::string Escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    out += c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : std::string(1, c);
  }
  return out;
}

std::string Text(double x, double y, int size, const char* anchor, const std::string& text) {
  return fmt::format(
      "<text x=\"{:.0f}\" y=\"{:.0f}\" font-size=\"{}\" text-anchor=\"{}\">{}</text>\n", x, y, size,
      anchor, Escaped(text));
}

struct Box {
  double left, top, width, height;
};

// Between cells that are x wide and y high.
std::string Grid(const Cells& cells, const Box& box, double x, double y) {
  std::string path;
  for (std::int64_t r = 1; r < cells.rows; ++r) {
    path +=
        fmt::format("M{} {:.2f}h{:.2f}", box.left, box.top + y * static_cast<double>(r), box.width);
  }
  for (std::int64_t c = 1; c < cells.cols; ++c) {
    path += fmt::format("M{:.2f} {}v{:.2f}", box.left + x * static_cast<double>(c), box.top,
                        box.height);
  }
  return fmt::format("<path fill=\"none\" stroke=\"#ffffff\" stroke-width=\"0.6\" d=\"{}\"/>\n",
                     path);
}

// The cells in a window of their own, whose unit is a whole cell: the last ones may be cut.
std::string Picture(const TileMap& map, const Cells& cells, const Box& box) {
  const double across =
      static_cast<double>(map.k_len) / static_cast<double>(cells.tiles_across * map.tile_keys);
  const double down =
      static_cast<double>(map.q_len) / static_cast<double>(cells.tiles_down * map.tile_rows);
  std::string svg = fmt::format(
      "<svg x=\"{}\" y=\"{}\" width=\"{:.2f}\" height=\"{:.2f}\" viewBox=\"0 0 {:.6f} {:.6f}\" "
      "preserveAspectRatio=\"none\" shape-rendering=\"crispEdges\">\n",
      box.left, box.top, box.width, box.height, across, down);
  for (const Cell kind : {kFull, kEdge, kMixed}) {
    if (!cells.has(kind)) continue;
    svg += fmt::format("<path fill=\"{}\" d=\"{}\"/>\n", kStyles[kind].colour, PathOf(cells, kind));
  }
  svg += "</svg>\n";
  const double x = box.width / across, y = box.height / down;
  return x >= 5 && y >= 5 ? svg + Grid(cells, box, x, y) : svg;
}

// The kinds that occur, one beside the other, each with its count.
std::string Legend(const TileMap& map, const Cells& cells, double y) {
  const TileTotals& t = map.totals;
  const std::array<std::int64_t, kMixed> counts = {t.empty, t.full, t.edge};
  const double all = std::max(1.0, static_cast<double>(t.full + t.edge + t.empty));
  std::string svg;
  double x = 72;
  for (const Cell kind : {kFull, kEdge, kEmpty, kMixed}) {
    std::string label = kStyles[kind].name;
    if (kind == kMixed) {
      if (!cells.has(kMixed)) continue;
      x = 72;
      y += 20;
    } else {
      const auto n = static_cast<double>(counts[kind]);
      label += fmt::format(" {} ({})", Count(n), Percent(n / all));
    }
    svg += fmt::format(
        "<rect x=\"{:.0f}\" y=\"{:.0f}\" width=\"12\" height=\"12\" fill=\"{}\" "
        "stroke=\"#868e96\" stroke-width=\"0.5\"/>\n",
        x, y - 10, kStyles[kind].colour);
    svg += Text(x + 18, y, 12, "start", label);
    x += 40 + 6.6 * static_cast<double>(label.size());
  }
  return svg;
}

}  // namespace

std::string TileCounts(const TileTotals& t) {
  const double all =
      static_cast<double>(t.full) + static_cast<double>(t.edge) + static_cast<double>(t.empty);
  if (all == 0) return "no tiles";
  const auto share = [&](std::int64_t n) { return Percent(static_cast<double>(n) / all); };
  return fmt::format("of {} tiles {} full, {} edge, {} skipped", Count(all), share(t.full),
                     share(t.edge), share(t.empty));
}

std::string Describe(const bench::Patterns& p) {
  using Mask = bench::Patterns::Mask;
  std::vector<std::string> said;
  if (p.mask == Mask::kRandom) said.push_back(fmt::format("mask random:{}", p.mask_share));
  if (p.mask == Mask::kCausal) said.push_back("mask causal");
  if (p.mask == Mask::kBlocks) {
    said.push_back(fmt::format("mask blocks:{}:{}", p.mask_block, p.mask_share));
  }
  if (p.map_given) said.push_back(fmt::format("block map keeping {}", Percent(p.map_share)));
  if (!p.lengths.empty()) {
    const auto [low, high] = std::minmax_element(p.lengths.begin(), p.lengths.end());
    const std::string range =
        *low == *high ? fmt::format("{}", *low) : fmt::format("{} to {}", *low, *high);
    said.push_back(p.lengths.size() == 1
                       ? "length " + range
                       : fmt::format("{} lengths of {}", p.lengths.size(), range));
  }
  return Join(said, ", ");
}

std::string Describe(const Problem& p, const bench::Patterns& patterns) {
  std::vector<std::string> said;
  if (p.causal) said.push_back("causal");
  if (p.window_left >= 0 || (!p.causal && p.window_right >= 0)) {
    said.push_back(fmt::format("window {},{}", p.window_left, p.window_right));
  }
  if (p.prefix > 0) said.push_back(fmt::format("prefix {}", p.prefix));
  if (p.chunk > 0) said.push_back(fmt::format("chunk {}", p.chunk));
  if (const std::string arrays = Describe(patterns); !arrays.empty()) said.push_back(arrays);
  return Join(said, ", ");
}

std::string TileSvg(const TileMap& map, const std::string& title) {
  constexpr double kSide = 640, kLeast = 24, kLeft = 72, kTop = 76;
  const Cells cells = Gather(map);
  // In proportion to queries and keys, but never a line.
  const double q = static_cast<double>(std::max<std::int64_t>(map.q_len, 1)),
               k = static_cast<double>(std::max<std::int64_t>(map.k_len, 1));
  const double width = std::max(kSide * std::min(1.0, k / q), kLeast);
  const double height = std::max(kSide * std::min(1.0, q / k), kLeast);
  const double page = kLeft + std::max(width, kSide) + 24, end = kTop + height;
  std::string tiles = fmt::format("tiles of {} queries × {} keys", map.tile_rows, map.tile_keys);
  if (cells.tiles_down > 1 || cells.tiles_across > 1) {
    tiles +=
        fmt::format("; a cell stands for {} × {} of them", cells.tiles_down, cells.tiles_across);
  }
  const double pairs = q * k;
  tiles += fmt::format("; {} of the pairs are visible", Percent(map.totals.visible_pairs / pairs));

  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" "
      "viewBox=\"0 0 {0:.0f} {1:.0f}\" font-family=\"Helvetica, Arial, sans-serif\" "
      "fill=\"#212529\">\n<title>{2}</title>\n<rect width=\"100%\" height=\"100%\" "
      "fill=\"#ffffff\"/>\n",
      page, end + 72, Escaped(title));
  svg += Text(kLeft, 26, 16, "start", title) + Text(kLeft, 46, 12, "start", tiles);
  svg += fmt::format(
      "<rect x=\"{}\" y=\"{}\" width=\"{:.2f}\" height=\"{:.2f}\" fill=\"{}\" "
      "stroke=\"#868e96\"/>\n",
      kLeft, kTop, width, height, kStyles[kEmpty].colour);
  if (!cells.kinds.empty()) svg += Picture(map, cells, {kLeft, kTop, width, height});
  svg += Text(kLeft, kTop - 8, 12, "start", "key 0") +
         Text(kLeft + width, kTop - 8, 12, "end",
              fmt::format("{}", std::max<std::int64_t>(map.k_len, 1) - 1));
  svg += Text(kLeft - 8, kTop + 12, 12, "end", "query 0");
  if (height >= 30) {
    svg += Text(kLeft - 8, end, 12, "end",
                fmt::format("{}", std::max<std::int64_t>(map.q_len, 1) - 1));
  }
  return svg + Legend(map, cells, end + 36) + "</svg>\n";
}

}  // namespace heed::cli
