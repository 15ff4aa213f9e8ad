// All kernels, one module.
#include "device.cuh"

#include "frames.cu"

#include "convolve.cu"

#include "quantized.cu"

#include "layers.cu"
