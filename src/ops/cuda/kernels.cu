// All kernels, one module.
#include "device.cuh"

#include "frames.cu"

#include "convolve.cu"

#include "layers.cu"
