/* Layers of a feed-forward network, over a block of samples.
 *
 * A block is a matrix of float32, one row a neuron and one column a sample. Its rows are `stride` floats apart,
 * a whole number of GROUPs; columns from `width` on are padding, which is computed and never looked at.
 *
 * Every bit of a result is decided here: a sparse row's sum starts at +0 and takes its entries in stored order, each
 * product and each sum rounded on its own (a dense row's: see dense.h). So this must be compiled without contraction and without fast-math;
 * then the length of vectors, blocks and row ranges changes no bit.
 *
 * One library is made of this file and its two headers for each instruction set: vectors are as long as the compiler's target has them.
 */
#include <stdint.h>

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

#include "activations.h"

/* As lamella/kernel/compiled.py declares it. */
struct layer {
    int64_t rows;
    const int32_t *starts;  /* rows + 1: where each row's entries begin */
    const int32_t *indices; /* row of the input that an entry multiplies */
    const float *values;
    const float *bias; /* one per row, or one */
    int32_t bias_per_row;
    int32_t bias_on_nonzero; /* add it only where the sum is not zero */
    int32_t activation;
    int32_t has_lo, has_hi;
    float lo, hi;
    float slope; /* of LEAKY_RELU, below zero */
    /* A dense layer has these instead of starts, indices and values; see dense.h. */
    int32_t stored_as, tile;
    int64_t columns;
    const void *weights;
    const int32_t *positions; /* row of the input that each column multiplies; NULL: the same */
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

static inline vec biased(vec sum, float bias, const struct layer *layer) {
    const mask adds = layer->bias_on_nonzero ? (mask)(sum != 0.0f) : ~(mask){0};
    return sum + (vec)(adds & (mask)all(bias)); /* where it is not added, +0 is */
}

/* Comparisons are such that NaN stays NaN, to be seen. */
static inline vec bounded(vec value, const struct layer *layer) {
    if (layer->has_lo) value = where(value < all(layer->lo), all(layer->lo), value);
    if (layer->has_hi) value = where(value > all(layer->hi), all(layer->hi), value);
    return value;
}

static inline vec finish(vec sum, float bias, const struct layer *layer) {
    sum = biased(sum, bias, layer);
    if (layer->activation == RELU) sum = where(sum < 0.0f, all(0.0f), sum);
    return bounded(sum, layer);
}

static inline void see(vec value, mask *alive, mask *wrong) {
    const mask exponent = (mask)value & 0x7f800000;
    *alive |= (mask)(value != 0.0f);
    *wrong |= exponent == 0x7f800000;
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
        const float value = layer->values[e];
#pragma GCC unroll 16
        for (int v = 0; v < vectors; v++) sums[v] = sums[v] + value * in[v];
    }
    const float bias = layer->bias[layer->bias_per_row ? row : 0];
    vec *out = (vec *)(y + row * stride);
#pragma GCC unroll 16
    for (int v = 0; v < vectors; v++) {
        out[v] = finish(sums[v], bias, layer);
        see(out[v], alive + v, wrong + v);
    }
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

#include "dense.h"

/* Bias, activation and bounds of rows whose y holds sums of `width` samples. */
static void finish_rows(const struct layer *layer, int64_t first, int64_t last, float *y, int64_t width,
                        int64_t stride, struct seen *seen) {
    const int64_t vectors = (width + LANES - 1) / LANES;
    for (int64_t row = first; row < last; row++) {
        vec *out = (vec *)(y + row * stride);
        const float bias = layer->bias[layer->bias_per_row ? row : 0];
        for (int64_t v = 0; v < vectors; v++) {
            vec value = biased(out[v], bias, layer);
            if (layer->activation == RELU) value = where(value < 0.0f, all(0.0f), value);
            if (layer->activation == LEAKY_RELU) value = where(value < 0.0f, value * layer->slope, value);
            out[v] = value;
        }
        curve(layer->activation, y + row * stride, width);
        for (int64_t v = 0; v < vectors; v++) {
            out[v] = bounded(out[v], layer) + 0.0f; /* no activation is -0 */
            see(out[v], seen->alive + v, seen->wrong + v);
        }
    }
}

/* Rows [first, last) of any layer, of `width` samples and what pads them. */
static void layer_rows(const struct layer *layer, int64_t first, int64_t last, const float *x, float *y, int64_t width,
                       int64_t stride, struct seen *seen) {
    if (layer->weights) {
        dense_sums(layer, first, last, x, y, width, stride);
        finish_rows(layer, first, last, y, width, stride, seen);
    } else if (layer->activation > RELU) {
        static const float none = 0.0f;
        struct layer sums = *layer;
        struct seen unused;
        sums.bias = &none;
        sums.bias_per_row = sums.bias_on_nonzero = sums.has_lo = sums.has_hi = 0;
        sums.activation = IDENTITY;
        sparse_rows(&sums, first, last, x, y, stride, &unused);
        finish_rows(layer, first, last, y, width, stride, seen);
    } else {
        sparse_rows(layer, first, last, x, y, stride, seen);
    }
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
    layer_rows(layer, first, last, x, y, width, stride, &seen);
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
        layer_rows(layer, 0, layer->rows, x, y, held, *stride, &seen);
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
