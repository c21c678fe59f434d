// mbarriers, emulated.
#pragma once

#include "cuda/ptx/emulated/base.h"

namespace heed::cuda::ptx {

HEED_DEVICE void MbarrierInit(uint32_t barrier, uint32_t arrivals, HEED_AT) {
  emu::MbarrierInit(barrier, arrivals, {"MbarrierInit", at});
}
HEED_DEVICE void FenceMbarrierInit(HEED_AT) { emu::FenceMbarrierInit({"FenceMbarrierInit", at}); }
HEED_DEVICE void MbarrierArrive(uint32_t barrier, HEED_AT) {
  emu::MbarrierArrive(barrier, 0, {"MbarrierArrive", at});
}
HEED_DEVICE void MbarrierArriveExpectTx(uint32_t barrier, uint32_t bytes, HEED_AT) {
  emu::MbarrierArrive(barrier, bytes, {"MbarrierArriveExpectTx", at});
}
HEED_DEVICE void MbarrierWait(uint32_t barrier, uint32_t parity, HEED_AT) {
  emu::MbarrierWait(barrier, parity, {"MbarrierWait", at});
}

}  // namespace heed::cuda::ptx
