// lanes/base.h: what every lanes header needs: five macros and the list of operations. Not here:
// any instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#define HEED_INLINE inline __attribute__((always_inline))
#define HEED_NOINLINE inline __attribute__((noinline))
#define HEED_UNLIKELY(x) __builtin_expect(!!(x), 0)
#if defined(__clang__)
#define HEED_UNROLL _Pragma("clang loop unroll(full)")
#define HEED_UNROLL_2 _Pragma("clang loop unroll_count(2)")
#else
#define HEED_UNROLL _Pragma("GCC unroll 32")
#define HEED_UNROLL_2 _Pragma("GCC unroll 2")
#endif

// The kernel text is compiled once per instruction set with -DHEED_ISA=<name>, each time into a
// namespace of that name, so that no linker can take one set's function for another's. Kernel files
// include nothing that instantiates std templates.
//
// A lanes header defines, in heed::cpu::HEED_ISA:
//
//   W                         f32 lanes of a vector
//   kKeys, kVecs              score tile: kKeys keys x kVecs vectors of queries in registers
//   kAcc, kMaxCols            accumulate tile: rows x column vectors <= kAcc, at most kMaxCols wide
//   kMaxTiles, kMaxKeys       blocking at head dims up to 256: query tiles that share one block of
//                             keys, keys of that block
//   kTileRuns                 whether the fast score tile may loop over several tiles
//   V, M, Exponent            W floats; W booleans; the integer half of exp2
//
//   Zero, Set(x)              one float to every lane
//   Splat(p)                  Set(*p): the load that the tile products broadcast from
//   Load(p), Store(p, x)      no alignment asked for (aligned accesses are not faster on any set)
//   Stream(p, x), EndStreams()
//                             Store past the caches, where p is aligned to a vector; what is stored so
//                             is seen by other threads after EndStreams
//   LoadN(p, n), StoreN(p, x, n)
//                             the first n lanes, 0 <= n <= W; the others are 0, or not written
//   LoadBf16(p), LoadF16(p), LoadBf16N(p, n), LoadF16N(p, n)
//                             16-bit values, widened
//   StoreBf16(p, x), StoreF16(p, x), StoreBf16N(p, x, n), StoreF16N(p, x, n)
//                             narrowed, round to nearest even, NaN stays NaN
//   Add, Sub, Mul, Div        one rounding each
//   Fma, Fms                  a*b+c, a*b-c; scalar rounds twice
//   Max(a, b), Min(a, b)      of a NaN in b: NaN; of one in a: b on x86, NaN on Arm
//   Abs(x), Recip(x)          Recip: 1/x within 2 ulp for normal x of magnitude below 2^126
//   Lt, Le, Eq, AllLe(a, b)   comparisons with NaN are false
//   And(m, n), Or(m, n), AndNot(m, n)
//                             m & n; m | n; !m & n
//   Bit(p, n)                 lanes whose 32-bit word at p has bit n
//   NonZero64(p)              bit i: byte i of 64 is not 0
//   Any(m), Select(m, yes, no)
//   Exp2Split(x, &e) -> f, Exp2Join(p, e)
//                             x = n + f, |f| <= 1/2; p * 2^n with saturation, never wrapping
//                             around; NaN stays NaN
//   ClampLow(x)               x, or some x < -149 where -infinity would make Exp2Split give NaN
//   FlushTiny(x, p)           p, or 0 where x < -126 (for sets whose Exp2Join ends at 2^-126)
//   Log2Split(x, &e) -> f     normal x > 0: x = 2^e * f, f in [0.75, 1.5), e as floats; NaN stays
//   Transpose(V (&r)[W])      of 32-bit units
//   Repeat<n>(p)              lane i = p[i mod n]; n a power of two up to W
//   FoldPairs<s>(a, b)        lane i: a[i] + a[i ^ s] where i & s is 0, else b[i ^ s] + b[i]; s a
//                             power of two below W
//   Words                     W words of 32 bits, kept where they can be multiplied; the upper
//                             halves of their 64 bits may hold anything
//   LoadWords(p), SetWords(x), XorWords(a, b, c), WordsAtLeast(a, x) -> M (unsigned)
//   MulWords(a, x), HighWords(a)
//                             64-bit products, whose low halves are words; and their high halves
//
// and, only where the set multiplies pairs of bf16 natively, HEED_NATIVE_BF16 with
//
//   VP                        W pairs of bf16 along the reduced axis, the first in the low half
//   LoadP(p), StoreP(p, x), SetP(u32)
//   Dot(a, b, c)              c + a.lo*b.lo + a.hi*b.hi
//   RepeatP<n>(p)             lane i = pair i mod n at p
//   PackP(lo, hi)             rounds half up: ties are not worth an instruction; a NaN may get lost
//   StoreHalves(p, x)         W floats as W / 2 pairs; tiny ones may become 0
//   LowP(x), HighP(x)         widened
//   ZipRows(a, b), ZipRowsN(a, b, n)
//                             W columns of two rows -> W pairs
//   ZipRowsApart(a, b, &x, &y)  2W columns of two rows, the order of whose pairs is the set's own
//   InOrder(&x, &y)           2W floats that came of such pairs -> the columns' order

namespace heed::cpu {

// NonZero64 for sets without an instruction for it: eight bytes at a time, each byte's top bit by a
// carry that cannot leave it, then gathered by a multiplication.
HEED_INLINE std::uint64_t NonZeroBytes(const std::uint8_t* p) {
  constexpr std::uint64_t kLow = 0x7f7f7f7f7f7f7f7f;
  std::uint64_t bits = 0;
  for (int i = 0; i < 8; i++) {
    std::uint64_t x;
    __builtin_memcpy(&x, p + 8 * i, 8);
    x = ((((x & kLow) + kLow) | x) & ~kLow) >> 7;
    bits |= (x * 0x0102040810204080 >> 56) << (8 * i);
  }
  return bits;
}

}  // namespace heed::cpu
