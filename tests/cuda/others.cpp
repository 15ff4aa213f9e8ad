// What candle asks of cuBLAS and cuRAND when it opens a GPU, for tests, and a
// decoder that decodes nothing, without which GStreamer's plugin for NVIDIA's
// GPUs has no elements at all.
extern "C" {
int cublasCreate_v2(void** handle) { return *handle = (void*)1, 0; }
int cublasDestroy_v2(void*) { return 0; }
int cublasSetStream_v2(void*, void*) { return 0; }
int curandCreateGenerator(void** made, int) { return *made = (void*)1, 0; }
int curandSetPseudoRandomGeneratorSeed(void*, unsigned long long) { return 0; }
int curandSetStream(void*, void*) { return 0; }
int curandDestroyGenerator(void*) { return 0; }

#define NOTHING(name) int name() { return 801; }
NOTHING(cuvidCreateDecoder)
NOTHING(cuvidCreateVideoParser)
NOTHING(cuvidCtxLock)
NOTHING(cuvidCtxLockCreate)
NOTHING(cuvidCtxLockDestroy)
NOTHING(cuvidCtxUnlock)
NOTHING(cuvidDecodePicture)
NOTHING(cuvidDestroyDecoder)
NOTHING(cuvidDestroyVideoParser)
NOTHING(cuvidGetDecoderCaps)
NOTHING(cuvidMapVideoFrame64)
NOTHING(cuvidParseVideoData)
NOTHING(cuvidUnmapVideoFrame64)
}
