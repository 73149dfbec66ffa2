/* Layers of a feed-forward network, over a block of samples.
 *
 * A block is a matrix of float32, one row a neuron and one column a sample. Its rows are `stride` floats apart,
 * a whole number of GROUPs; columns from `width` on are padding, which is computed and never looked at.
 *
 * Every bit of a result is decided here: a row's sum starts at +0 and takes its entries in stored order, each
 * product and each sum rounded on its own. So this must be compiled without contraction and without fast-math;
 * then the length of vectors, blocks and row ranges changes no bit.
 *
 * One library is made of this file for each instruction set: vectors are as long as the compiler's target has them.
 */
#include <stdint.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#ifdef __FAST_MATH__
#error "results are exact only without -ffast-math"
#endif

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif

#define GROUP 16          /* samples; strides are multiples of it */
#define STRIP (4 * GROUP) /* samples whose sums are held in registers at a time */
#define WIDEST 1024       /* samples of a block */
#define VECTORS (WIDEST / LANES)

/* Aligned as floats are: blocks that begin at a cache line are faster, others are right. */
typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t mask __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint16_t halves __attribute__((vector_size(2 * LANES), aligned(2), may_alias));
typedef uint32_t bits __attribute__((vector_size(4 * LANES)));

enum activation { IDENTITY = 0, RELU = 1, LEAKY_RELU = 2, SIGMOID = 3, TANH = 4, GELU = 5 };
enum stored { SPARSE = 0, FLOAT32 = 1, FLOAT16 = 2, BFLOAT16 = 3 };

/* As lamella/kernel/compiled.py declares it. */
struct layer {
    int64_t rows, columns;
    const int32_t *starts;  /* rows + 1: where each row's entries begin */
    const int32_t *indices; /* row of the input that an entry multiplies */
    const void *values;     /* float32; of a dense layer, panels of PANEL rows, each column by column, as stored */
    int32_t stored;
    const float *bias; /* one per row, or one */
    int32_t bias_per_row;
    int32_t bias_on_nonzero; /* add it only where the sum is not zero */
    int32_t activation;
    int32_t has_lo, has_hi;
    float lo, hi;
    float slope; /* of leaky relu */
};

/* What is seen of columns while they are computed: any bit set where one is not zero, or not finite. */
struct seen {
    mask alive[VECTORS];
    mask wrong[VECTORS];
};

static inline vec all(float value) { return value - (vec){0}; }

static inline vec where(mask chosen, vec a, vec b) {
    return (vec)((chosen & (mask)a) | (~chosen & (mask)b));
}

static inline vec below(vec x, float bound, vec then, vec otherwise) { return where(x < bound, then, otherwise); }

/* e^x for x <= 0; Cephes' expf, bounded where its result would no longer be a normal number. */
static inline vec exponential(vec x) {
    x = below(x, -87.0f, all(-87.0f), x);
    const vec n = (x * 1.44269504f + 12582912.0f) - 12582912.0f; /* to the nearest whole number */
    const vec r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = (p * (r * r) + r) + 1.0f;
    return p * (vec)(((bits)__builtin_convertvector(n, mask) + 127) << 23);
}

/* Activations that bend: each step rounded, as lamella/kernel/activation.py has them too. */
static __attribute__((noinline)) vec curved(vec x, int activation) {
    const vec size = below(x, 0.0f, -x, x);
    if (activation == SIGMOID) {
        const vec e = exponential(-size);
        return below(x, 0.0f, e, all(1.0f)) / (e + 1.0f);
    }
    if (activation == TANH) { /* Cephes' tanhf */
        const vec s = x * x, e = exponential(size * -2.0f);
        vec p = s * -5.70498872745e-3f + 2.06390887954e-2f;
        p = p * s + -5.37397155531e-2f;
        p = p * s + 1.33314422036e-1f;
        p = p * s + -3.33332819422e-1f;
        const vec far = (1.0f - e) / (e + 1.0f);
        return below(size, 0.625f, p * s * x + x, below(x, 0.0f, -far, far));
    }
    /* x times the normal distribution's share below x; Abramowitz and Stegun 7.1.26. */
    const vec z = size * 0.707106781f, t = 1.0f / (z * 0.3275911f + 1.0f);
    vec p = t * 1.061405429f + -1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t + -0.284496736f;
    p = p * t + 0.254829592f;
    const vec tail = p * t * exponential(-(z * z)) * 0.5f;
    return x * below(x, 0.0f, tail, 1.0f - tail);
}

static inline vec finish(vec sum, float bias, const struct layer *layer) {
    const mask adds = layer->bias_on_nonzero ? (mask)(sum != 0.0f) : ~(mask){0};
    sum = sum + (vec)(adds & (mask)all(bias)); /* no sum is -0, so adding +0 leaves it as it is */
    /* Comparisons are such that NaN stays NaN, to be seen. */
    if (layer->activation == RELU) sum = below(sum, 0.0f, all(0.0f), sum);
    else if (layer->activation == LEAKY_RELU) sum = below(sum, 0.0f, sum * layer->slope, sum) + 0.0f;
    else if (layer->activation != IDENTITY) sum = curved(sum, layer->activation) + 0.0f; /* -0 becomes +0 */
    if (layer->has_lo) sum = where(sum < all(layer->lo), all(layer->lo), sum);
    if (layer->has_hi) sum = where(sum > all(layer->hi), all(layer->hi), sum);
    return sum;
}

static inline vec seen_value(vec value, mask *alive, mask *wrong) {
    const mask exponent = (mask)value & 0x7f800000;
    *alive |= (mask)(value != 0.0f);
    *wrong |= exponent == 0x7f800000;
    return value;
}

/* One row of `vectors` vectors, a constant wherever this is inlined, so that their sums stay in registers. */
static inline __attribute__((always_inline)) void row_strip(const struct layer *layer, int64_t row, const float *x,
                                                            float *y, int64_t stride, mask *alive, mask *wrong,
                                                            const int vectors) {
    vec sums[STRIP / LANES];
#pragma GCC unroll 16
    for (int v = 0; v < vectors; v++) sums[v] = (vec){0};
    for (int32_t e = layer->starts[row], end = layer->starts[row + 1]; e < end; e++) {
        const vec *in = (const vec *)(x + layer->indices[e] * stride);
        const float value = ((const float *)layer->values)[e];
#pragma GCC unroll 16
        for (int v = 0; v < vectors; v++) sums[v] = sums[v] + value * in[v];
    }
    const float bias = layer->bias[layer->bias_per_row ? row : 0];
    vec *out = (vec *)(y + row * stride);
#pragma GCC unroll 16
    for (int v = 0; v < vectors; v++) out[v] = seen_value(finish(sums[v], bias, layer), alive + v, wrong + v);
}

static void sparse_rows(const struct layer *given, int64_t first, int64_t last, const float *x, float *y,
                        int64_t stride, struct seen *seen) {
    const struct layer layer = *given; /* a copy that no store to y can change */
    for (int64_t row = first; row < last; row++) {
        for (int64_t at = 0; at < stride; at += STRIP) {
            mask *alive = seen->alive + at / LANES, *wrong = seen->wrong + at / LANES;
            switch ((stride - at) / GROUP) {
            case 1: row_strip(&layer, row, x + at, y + at, stride, alive, wrong, 1 * GROUP / LANES); break;
            case 2: row_strip(&layer, row, x + at, y + at, stride, alive, wrong, 2 * GROUP / LANES); break;
            case 3: row_strip(&layer, row, x + at, y + at, stride, alive, wrong, 3 * GROUP / LANES); break;
            default: row_strip(&layer, row, x + at, y + at, stride, alive, wrong, 4 * GROUP / LANES);
            }
        }
    }
}

/* ---- dense layers: the same sums, over all columns ---- */

#define PANEL 16  /* rows whose weights lie together */
#define CHUNK 256 /* columns whose weights are widened at a time */
#define FEW 8     /* samples up to which vectors run along rows instead */

/* As many sums as fit in registers beside what is multiplied. */
#if LANES == 16
#define TILE_ROWS 8
#define TILE_VECTORS 2
#define NARROW 8
#else
#define TILE_ROWS 4
#define TILE_VECTORS (GROUP / LANES)
#define NARROW 4
#endif


/* LANES weights as float32, exactly. */
static inline vec widened(const void *weights, int64_t at, int stored) {
    if (stored == FLOAT32) return *(const vec *)((const float *)weights + at);
    const uint16_t *halfs = (const uint16_t *)weights + at;
    if (stored == BFLOAT16) return (vec)(__builtin_convertvector(*(const halves *)halfs, bits) << 16);
#if defined(__AVX512F__)
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)halfs));
#elif defined(__F16C__)
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)halfs));
#elif defined(__aarch64__)
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(halfs)));
#else
#error "no way to widen float16"
#endif
}

/* Add the products of `count` columns to the sums of `rows` rows of a panel and `vectors` vectors of samples. */
static inline __attribute__((always_inline)) void tile(const float *weights, int64_t count, const float *x, float *y,
                                                       int64_t stride, int begin, const int rows, const int vectors) {
    vec sums[TILE_ROWS][TILE_VECTORS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) sums[r][v] = begin ? (vec){0} : ((const vec *)(y + r * stride))[v];
    for (int64_t k = 0; k < count; k++, x += stride, weights += PANEL) {
        vec in[TILE_VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) in[v] = ((const vec *)x)[v];
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) sums[r][v] = sums[r][v] + weights[r] * in[v];
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) ((vec *)(y + r * stride))[v] = sums[r][v];
}

/* Sums of the first `rows` rows of a panel, for many samples. */
static void panel_wide(const struct layer *layer, int64_t panel, int64_t rows, const float *x, float *y,
                       int64_t stride) {
    float weights[CHUNK * PANEL] __attribute__((aligned(64)));
    const int64_t step = TILE_VECTORS * LANES;
    for (int64_t k = 0; k < layer->columns; k += CHUNK) {
        const int64_t count = layer->columns - k < CHUNK ? layer->columns - k : CHUNK;
        const int64_t from = (panel * layer->columns + k) * PANEL;
        for (int64_t i = 0; i < count * PANEL; i += LANES)
            *(vec *)(weights + i) = widened(layer->values, from + i, layer->stored);
        for (int64_t at = 0; at < stride; at += step) {
            const float *in = x + k * stride + at;
            float *out = y + at;
            for (int64_t r = 0; r < rows;) {
                const int whole = rows - r >= TILE_ROWS, wide = stride - at >= step;
                if (whole && wide) tile(weights + r, count, in, out + r * stride, stride, !k, TILE_ROWS, TILE_VECTORS);
                else if (whole) tile(weights + r, count, in, out + r * stride, stride, !k, TILE_ROWS, GROUP / LANES);
                else if (wide) tile(weights + r, count, in, out + r * stride, stride, !k, 1, TILE_VECTORS);
                else tile(weights + r, count, in, out + r * stride, stride, !k, 1, GROUP / LANES);
                r += whole ? TILE_ROWS : 1;
            }
        }
    }
}

/* Sums of `panels` panels for `samples` samples: vectors run along rows, and weights are read once, in order. */
static inline __attribute__((always_inline)) void panels_narrow(const struct layer *layer, int64_t panel, const float *x,
                                                                float *y, int64_t rows, int64_t stride,
                                                                const int stored, const int panels,
                                                                const int samples) {
    enum { PARTS = PANEL / LANES };
    vec sums[4][NARROW][PARTS];
    float out[4][NARROW][PANEL];
#pragma GCC unroll 4
    for (int p = 0; p < panels; p++)
#pragma GCC unroll 8
        for (int j = 0; j < samples; j++)
#pragma GCC unroll 4
            for (int i = 0; i < PARTS; i++) sums[p][j][i] = (vec){0};
    for (int64_t k = 0; k < layer->columns; k++, x += stride)
#pragma GCC unroll 4
        for (int p = 0; p < panels; p++)
#pragma GCC unroll 4
            for (int i = 0; i < PARTS; i++) {
                const int64_t at = ((panel + p) * layer->columns + k) * PANEL + i * LANES;
                const vec weight = widened(layer->values, at, stored);
#pragma GCC unroll 8
                for (int j = 0; j < samples; j++) sums[p][j][i] = sums[p][j][i] + weight * x[j];
            }
#pragma GCC unroll 4
    for (int p = 0; p < panels; p++)
#pragma GCC unroll 8
        for (int j = 0; j < samples; j++)
#pragma GCC unroll 4
            for (int i = 0; i < PARTS; i++) *(vec *)(out[p][j] + i * LANES) = sums[p][j][i];
    for (int64_t r = 0; r < rows; r++)
        for (int j = 0; j < samples; j++) y[r * stride + j] = out[r / PANEL][j][r % PANEL];
}

/* Sums of rows of a dense layer; `first` begins a panel. */
static inline __attribute__((always_inline)) void rows_narrow(const struct layer *layer, int64_t first, int64_t last,
                                                              const float *x, float *y, int64_t stride,
                                                              const int stored, const int samples) {
    const int together = NARROW / samples < 4 ? NARROW / samples : 4;
    int64_t row = first;
    for (; row + together * PANEL <= last; row += together * PANEL)
        panels_narrow(layer, row / PANEL, x, y + row * stride, together * PANEL, stride, stored, together, samples);
    for (; row < last; row += PANEL)
        panels_narrow(layer, row / PANEL, x, y + row * stride, last - row < PANEL ? last - row : PANEL, stride, stored,
                      1, samples);
}

static void dense_sums(const struct layer *layer, int64_t first, int64_t last, const float *x, float *y, int64_t width,
                       int64_t stride) {
    if (width > FEW) {
        for (int64_t row = first; row < last; row += PANEL)
            panel_wide(layer, row / PANEL, last - row < PANEL ? last - row : PANEL, x, y + row * stride, stride);
        return;
    }
    for (int64_t at = 0; at < width; at += NARROW) {
        const int64_t left = width - at;
#define BY_STORED(samples)                                                                                     \
    switch (layer->stored) {                                                                                   \
    case FLOAT32: rows_narrow(layer, first, last, x + at, y + at, stride, FLOAT32, samples); break;            \
    case FLOAT16: rows_narrow(layer, first, last, x + at, y + at, stride, FLOAT16, samples); break;            \
    default: rows_narrow(layer, first, last, x + at, y + at, stride, BFLOAT16, samples);                       \
    }
        if (left == 1) BY_STORED(1)
        else if (left == 2) BY_STORED(2)
        else if (left <= 4) BY_STORED(4)
        else BY_STORED(NARROW)
    }
}

static void dense_rows(const struct layer *given, int64_t first, int64_t last, const float *x, float *y, int64_t width,
                       int64_t stride, struct seen *seen) {
    const struct layer layer = *given;
    if (!layer.columns) __builtin_memset(y + first * stride, 0, 4 * (last - first) * stride);
    dense_sums(&layer, first, last, x, y, width, stride);
    for (int64_t row = first; row < last; row++) {
        const float bias = layer.bias[layer.bias_per_row ? row : 0];
        for (int64_t at = 0; at < stride; at += LANES) {
            vec *out = (vec *)(y + row * stride + at);
            *out = seen_value(finish(*out, bias, &layer), seen->alive + at / LANES, seen->wrong + at / LANES);
        }
    }
}

static void some_rows(const struct layer *layer, int64_t first, int64_t last, const float *x, float *y, int64_t width,
                      int64_t stride, struct seen *seen) {
    if (layer->stored == SPARSE) sparse_rows(layer, first, last, x, y, stride, seen);
    else dense_rows(layer, first, last, x, y, width, stride, seen);
}

static int any_wrong(const struct seen *seen, int64_t width) {
    const int32_t *wrong = (const int32_t *)seen->wrong;
    int32_t any = 0;
    for (int64_t j = 0; j < width; j++) any |= wrong[j];
    return any != 0;
}

static int64_t padded(int64_t width) { return (width + GROUP - 1) / GROUP * GROUP; }

/* Copy the columns `keep` to the front of rows `to_stride` apart; zeros follow them. In place if to is from. */
void lamella_pack(const float *from, int64_t from_stride, float *to, int64_t to_stride, int64_t rows,
                  const int32_t *keep, int64_t width) {
    for (int64_t row = 0; row < rows; row++, from += from_stride, to += to_stride) {
        for (int64_t j = 0; j < width; j++) to[j] = from[keep[j]];
        for (int64_t j = width; j < to_stride; j++) to[j] = 0.0f;
    }
}

/* Rows [first, last) of one layer of a block. `alive[j]` becomes whether column j is not zero in all of them.
 * Returns 1 if one of them is not finite, else 0. */
int32_t lamella_rows(const struct layer *layer, int64_t first, int64_t last, const float *x, float *y, int64_t width,
                     int64_t stride, uint8_t *alive) {
    struct seen seen;
    __builtin_memset(&seen, 0, sizeof seen);
    some_rows(layer, first, last, x, y, width, stride, &seen);
    for (int64_t j = 0; j < width; j++) alive[j] = ((const int32_t *)seen.alive)[j] != 0;
    return any_wrong(&seen, width);
}

/* Take a block through layers, from x to y and back; both have room for the widest layer at the first stride.
 *
 * With `drop`, columns that are zero in every row of a layer's output are left out as soon as that makes the block
 * a GROUP narrower. On return the output is in x after an even number of layers, its rows `stride` apart, and `width`
 * columns are to be kept: those at `keep` are the block's `columns`, as they were numbered on entry.
 * Returns how many layers were done: fewer than there are if no column is left, and -1 - k if layer k is not finite. */
int32_t lamella_block(const struct layer *layers, int32_t count, float *x, float *y, int64_t *width, int64_t *stride,
                      int32_t *columns, int32_t *keep, int32_t drop) {
    struct seen seen;
    int32_t done = 0;
    int64_t held = *width; /* columns of the block that are samples, dead or not */
    for (int64_t j = 0; j < held; j++) keep[j] = columns[j] = (int32_t)j;
    while (done < count && *width > 0) {
        const struct layer *layer = layers + done;
        if (drop && padded(*width) < *stride) {
            lamella_pack(x, *stride, x, padded(*width), layers[done - 1].rows, keep, *width);
            held = *width;
            *stride = padded(held);
            for (int64_t j = 0; j < held; j++) keep[j] = (int32_t)j;
        }
        __builtin_memset(&seen, 0, sizeof seen);
        some_rows(layer, 0, layer->rows, x, y, held, *stride, &seen);
        if (any_wrong(&seen, held)) return -1 - done;
        done++;
        if (drop) {
            /* A dead column stays dead: what was left out before stays out. */
            int64_t left = 0;
            for (int64_t k = 0; k < *width; k++) {
                if (!((const int32_t *)seen.alive)[keep[k]]) continue;
                columns[left] = columns[k];
                keep[left++] = keep[k];
            }
            *width = left;
        }
        float *swapped = x;
        x = y;
        y = swapped;
    }
    return done;
}
