// What follows the last layer of a chain, in this order.

struct Epilogue {
    uint64_t residual;       // f32 planes of 0 to 255 of the result's size that are added; or null.
    uint64_t nearest;        // f32 planes of 0 to 255 that are added, enlarged by nearest neighbour; or null.
    int32_t nearest_factor;  // Width of the result in widths of these planes.
    int32_t tanh;            // Whether y becomes (tanh(y) + 1) / 2.
    float limit;             // The largest value that is stored, in units of 8 bit.
};
SAME_SIZE(Epilogue, 32);
SAME_OFFSET(Epilogue, residual, 0);
SAME_OFFSET(Epilogue, nearest, 8);
SAME_OFFSET(Epilogue, nearest_factor, 16);
SAME_OFFSET(Epilogue, tanh, 20);
SAME_OFFSET(Epilogue, limit, 24);

// The value of a sample of the result, planes of width x height.
CALLED float apply_epilogue(const Epilogue& e, float value, int plane, int y, int x, int width, size_t height) {
    if (e.residual) {
        size_t at = ((size_t)plane * height + y) * width + x;
        value += reinterpret_cast<const float*>(e.residual)[at] / 255.0f;
    }
    if (e.nearest) {
        int columns = width / e.nearest_factor;
        size_t rows = height / e.nearest_factor;
        size_t at = ((size_t)plane * rows + y / e.nearest_factor) * columns + x / e.nearest_factor;
        value += reinterpret_cast<const float*>(e.nearest)[at] / 255.0f;
    }
    if (e.tanh) value = (tanhf(value) + 1.0f) * 0.5f;
    return value;
}
