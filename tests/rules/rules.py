# The rules of the rooms as data: who may include what, and which words may not appear where. How
# they are checked is in rules_test.py. Every rule carries a sample that breaks it; the self-test
# plants the sample and demands that the rule sees it.
from dataclasses import dataclass


@dataclass(frozen=True)
class Includes:
    """In files matching `where` (and not `but`), every #include must match one of `allow`."""
    name: str
    where: str
    allow: tuple
    sample: tuple  # (path, text) that must be caught
    but: str = ""


@dataclass(frozen=True)
class Forbid:
    """In files matching `where` (and not `but`), no code may match `words`. `text`: comments and
    strings count too, and every kind of text file is looked at."""
    name: str
    where: str
    words: str
    sample: tuple
    but: str = ""
    text: bool = False


STD = "<std>"  # stands for any header of the C++20 standard library
PUBLIC = r"heed/\w+\.h"
CODE = r"\.(h|hpp|inc|cpp|cu|cuh|def)$"

# The CPU files that are ordinary code: choice, threads, memory. Everything else in src/cpu is
# kernel text, compiled once per instruction set.
CPU_HOST = r"^src/cpu/(cpu|threads|machine)\w*\.(h|cpp)$"

# The CUDA files that are ordinary C++: choice, plans, launches. Everything else in src/cuda is kernel
# text, compiled for GPUs and for the emulator.
CUDA_HOST = r"^src/cuda/(cuda|cuda_call|cuda_backward|device|instances|machines|no_device|wrap\w+)\.(h|cpp|cu)$"

INCLUDES = (
    Includes("public headers see the standard library alone", r"^include/heed/", (STD, PUBLIC),
             ("include/heed/a.h", '#include "problem/visibility.h"')),
    Includes("the waist sees public headers", r"^src/backend\.h$", (STD, PUBLIC),
             ("src/backend.h", '#include "cpu/cpu.h"')),
    Includes("merging sees public headers and the rules", r"^src/merge\.cpp$",
             (STD, PUBLIC, r"problem/\w+\.h"), ("src/merge.cpp", '#include "cpu/threads.h"')),
    Includes("the room of decisions sees public headers and the waist", r"^src/problem/",
             (STD, PUBLIC, r"backend\.h", r"(problem/)?\w+\.h"),
             ("src/problem/a.h", '#include "cpu/threads.h"')),
    Includes("the formula sees nothing but numbers", r"^src/score/",
             (r"<(cstdint|cstddef|cmath|limits|bit)>", r"score/\w+\.(h|inc)", r"\w+\.(h|inc)"),
             ("src/score/a.h", "#include <vector>")),
    Includes("the reference sees definitions alone", r"^src/reference/",
             (STD, PUBLIC, r"backend\.h", r"problem/visibility\.h", r"score/\w+\.(h|inc)",
              r"(reference/)?\w+\.h"),
             ("src/reference/a.cpp", '#include "problem/schedule.h"')),
    Includes("kernels see lanes, the problem's integers and the formula", r"^src/cpu/",
             # heed/types.h for DType; what else it holds must not reach a kernel's object file,
             # which tests/baseline checks.
             (r"<(cstdint|cstddef)>", r"heed/types\.h", r"problem/\w+\.h", r"score/\w+\.(h|inc)",
              r"(cpu/)?(lanes/)?\w+\.(h|inc)"),
             ("src/cpu/tiles.h", "#include <vector>"), but=CPU_HOST + r"|^src/cpu/lanes/"),
    Includes("lanes see intrinsics", r"^src/cpu/lanes/",
             (r"<(cstdint|cstddef|cmath|cstring|immintrin\.h|arm_neon\.h)>",
              r"(cpu/)?(lanes/)?\w+\.(h|inc)"),
             ("src/cpu/lanes/avx2.h", "#include <thread>")),
    Includes("device code sees the ptx layer, the problem's integers and the formula",
             r"^src/cuda/",
             (r"<(cstdint|cstddef)>", r"heed/types\.h", r"problem/\w+\.h", r"score/\w+\.(h|inc)",
              r"cuda/ptx/(ptx|types)\.h", r"cuda/\w+\.(h|def)"),
             ("src/cuda/a.h", '#include "cuda/ptx/device/matrix.h"'),
             but=r"^src/cuda/ptx/|" + CUDA_HOST),
    Includes("the cuda backend sees CUDA in its device alone", CUDA_HOST,
             (STD, PUBLIC, r"backend\.h", r"problem/\w+\.h", r"score/\w+\.h", r"cuda/\w+\.(h|def)"),
             ("src/cuda/cuda.cpp", "#include <cuda_runtime.h>"), but=r"^src/cuda/\w+\.cu$"),
    Includes("the ptx layer sees CUDA in its device body alone", r"^src/cuda/ptx/device/",
             (r"<(cstdint|cuda|cuda_fp16|cuda_bf16)(\.h)?>",
              r"cuda/ptx/(types\.h|device/\w+\.(h|inc))"),
             ("src/cuda/ptx/device/a.h", '#include "emu/machine.h"')),
    Includes("the ptx layer sees the emulator in its emulated body alone", r"^src/cuda/ptx/",
             (r"<(cstdint|cmath)>", r"cuda/ptx/.*\.h", r"emu/(machine|numbers)\.h"),
             ("src/cuda/ptx/emulated/a.h", "#include <cuda.h>"), but=r"^src/cuda/ptx/device/"),
    Includes("the library does not know the emulator",
             r"^(src|include|io|verify|cli|bench|python)/",
             (r"(?!emu/).*", r"<.*>", STD), ("src/cpu/cpu.cpp", '#include "emu/machine.h"'),
             but=r"^src/cuda/ptx/emulated/"),
    Includes("the rooms above the library see its public headers, io and verify",
             r"^(cli|bench|examples|verify)/",
             (STD, PUBLIC, r"<?heed/\w+\.h>?", r"(io|verify|cli|bench)/\w+\.h", r"\w+\.h",
              r"<(CLI|fmt|nlohmann|benchmark)/.*>", r"<(unistd|cblas|sched|sys/\w+)\.h>",
              r"tests/cases\.h"),
             ("cli/a.cpp", '#include "problem/visibility.h"')),
    Includes("the Python extension sees the public headers and Python", r"^python/",
             (STD, PUBLIC, r"<?heed/\w+\.h>?", r"(io|verify)/\w+\.h", r"\w+\.h", r"<nanobind/.*>"),
             ("python/core/a.cpp", '#include "problem/visibility.h"')),
    Includes("io sees public headers", r"^io/",
             (STD, PUBLIC, r"(io/)?\w+\.h", r"<(unistd|fcntl|sys/\w+)\.h>",
              r"<nlohmann/json\.hpp>"),
             ("io/a.cpp", '#include "verify/compare.h"')),
)

# The hint of a spinning thread (pause, yield) is no lane instruction: threads.cpp may give it.
INTRINSICS = (r"\b_mm\d*_|__m(128|256|512)|immintrin|arm_neon|\bv\w+q_(f|u|s)\d+\b"
              r"|__builtin_ia32_(?!pause)")

FORBIDDEN = (
    Forbid("intrinsics live in src/cpu/lanes", r"\.", INTRINSICS,
           ("src/cpu/tiles.h", "auto x = _mm512_setzero_ps();"),
           but=r"^src/cpu/lanes/|^bench/(peak|kernels)"),
    Forbid("asm lives in the ptx layer, the emulator's fibers and the peak probes", r"\.",
           r"\basm\b|__asm__", ("src/cpu/tiles.h", 'asm volatile("");'),
           but=r"^src/cuda/ptx/device/|^tests/emu/fiber\.cpp$|^bench/(peak|kernels)"
           r"|^src/cpu/threads\.cpp$"),
    Forbid("one getenv", r"^(src|include|io|verify)/", r"\bgetenv\b",
           ("src/cpu/cpu.cpp", 'auto e = std::getenv("X");'), but=r"^src/problem/plan\.cpp$"),
    Forbid("the library never prints", r"^(src|include)/",
           r"\b(printf|fprintf|puts|fputs|putchar|perror)\s*\(|\bc(out|err|log)\b"
           r"|<(iostream|print)>",
           ("src/problem/a.cpp", 'std::cerr << "no";')),
    Forbid("the library never ends the program", r"^(src|include)/",
           r"\b(abort|exit|_Exit|quick_exit|terminate|assert)\s*\(",
           ("src/problem/a.cpp", "std::abort();")),
    Forbid("the library does not throw", r"^(src|include)/", r"\bthrow\b",
           ("src/problem/a.cpp", "throw 1;")),
    Forbid("mutable state lives in the thread pool", r"^src/",
           r"\bthread_local\b|\bstd::(atomic|mutex|once_flag|condition_variable)\b"
           r"|^\s*static\s+(?!const|constexpr|inline|HEED_)[\w:<>,* ]+(=|;|\{)",
           ("src/problem/a.cpp", "static int calls = 0;"), but=r"^src/cpu/(threads|cpu)\."),
    Forbid("kernels cannot fail: no memory, threads, system or Status",
           r"^src/cpu/",
           r"\b(malloc|calloc|realloc|aligned_alloc|free|new|delete|try|catch|Status|Result)\b"
           r"|\bstd::(vector|string|unique_ptr|shared_ptr|function|thread|mutex|atomic|array|max"
           r"|min|swap)\b|\bpthread_|\bthread_local\b",
           ("src/cpu/tiles.h", "float* x = new float[4];"), but=CPU_HOST),
    Forbid("decisions are integers and rules: no threads", r"^src/problem/",
           r"\bstd::(j?thread|async|condition_variable)\b|\bpthread_|#\s*include\s*<thread>",
           ("src/problem/a.cpp", "std::thread t;")),
    Forbid("the formula does not load, loop over data or allocate", r"^src/score/",
           r"\b(malloc|new|delete|while)\b|\bstd::(vector|string)\b|\bLoad\w*\s*\(|\bStore\w*\s*\("
           r"|\b(tile|bq|bk)\b",
           ("src/score/a.h", "auto x = l.Load(p);")),
    Forbid("the reference uses no derived form", r"^src/reference/",
           r"\b(KeysOf|QueriesOf|Classify|ItemAt|Pull)\b",
           ("src/reference/a.cpp", "auto keys = KeysOf(v, i);")),
    Forbid("the rooms above the library do not open its inner namespaces",
           r"^(cli|bench|examples|verify|io|python)/", r"\bheed::(cpu|reference|problem|score)::",
           ("cli/a.cpp", "heed::cpu::Detect();")),
    Forbid("device code leaves the architecture to the ptx layer", r"^(src/cuda|tests/cuda)/",
           r"__CUDA_ARCH|__CUDACC__", ("src/cuda/a.h", "#if __CUDA_ARCH__ >= 800"),
           but=r"^src/cuda/ptx/(ptx\.h|device/base\.h)$"),
    Forbid("device code reaches the GPU through the ptx layer", r"^(src/cuda|tests/cuda)/.*\.h$",
           r"\b(threadIdx|blockIdx|blockDim|gridDim|__sync\w+|__shfl\w*|__ldg|__shared__|atomic\w+"
           r"|__device__|__(threadfence|ballot|any|all)\w*)\b",
           ("src/cuda/a.h", "int t = threadIdx.x;"), but=r"^src/cuda/ptx/device/"),
    Forbid("device code neither allocates nor prints", r"^src/cuda/.*\.h$",
           r"\b(malloc|free|new|try|catch|Status|Result)\b|\bstd::(?!u?int\d+_t\b)",
           ("src/cuda/a.h", "float* x = new float[4];"),
           but=r"^src/cuda/ptx/emulated/|" + CUDA_HOST),
    # The words are written in two parts so that this table does not break its own rules.
    Forbid("no postponed work in the text", r".", r"\b(TO" r"DO|FIX" r"ME|X" r"XX|HA" r"CK)\b",
           ("docs/a.md", "TO" "DO: write this"), text=True),
    Forbid("no paths of one machine", r".",
           r"(?<![\w.])/(wo" r"rk|ro" r"ot|ho" r"me)/|(^|[\s\"'(`/])sha" r"red/",
           ("docs/a.md", "see /ho" "me/someone/notes"), text=True),
    Forbid("the project speaks of itself alone", r".",
           r"(?i)\b(this se" r"ssion|cla" r"ude|chat" r"gpt|the as" r"signment|the is" r"sue says)\b",
           ("docs/a.md", "as done in this se" "ssion"), text=True),
)

# Lines per file, source and scripts. Look again above 500; above the hard limit it must be split.
MEDIAN_LINES = 200
MAX_LINES = 800

# Folders that hold no text of ours.
SKIP = r"^(data|tests/data|bench/results)/|^LICENSE$"
