/* dynkin_c.h - the interface for C and for languages that call C: score priors. Included by dynkin.h. */
#ifndef DYNKIN_C_H
#define DYNKIN_C_H
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What every function returns; the values are the exit codes of the program. */
typedef enum dynkin_status {
    DYNKIN_OK = 0,
    DYNKIN_INTERNAL = 1,  /**< a fault of the library */
    DYNKIN_USAGE = 2,     /**< an argument is wrong */
    DYNKIN_INPUT = 3,     /**< the content of a file is wrong */
    DYNKIN_NUMERICAL = 4, /**< a system has no solution */
    DYNKIN_IO = 5         /**< a file cannot be opened, read or written, or out of memory */
} dynkin_status;

/** Noisy data (as an int, so that a wrong one is an error). EDM x = x_0 + sigma eps; VP x = alpha x_0 + sigma
 * eps, alpha = sqrt(1 - sigma^2). */
typedef enum dynkin_convention { DYNKIN_EDM = 0, DYNKIN_VP = 1 } dynkin_convention;

/** One line about the last call of this thread that did not return DYNKIN_OK; "" when there is none. Valid
 * until the next such call. */
const char* dynkin_last_error(void);

/** As `sigmas`: one sigma a row. For batches with a sigma a row that may be of one row, whose scores would
 * otherwise be those at one sigma (float32: see dynkin_prior_score_f32). */
#define DYNKIN_EACH_ROW ((size_t)-1)

/** A closed-form score of noisy data at every noise level. Scores of one prior may be computed by several
 * threads at once. */
typedef struct dynkin_prior dynkin_prior;

/** Fits a prior to the rows of an .npy file. kind: "product", "gaussian" or "flat". degree: 2 to 10, 0: 6.
 *  ridge: 0 to 1, negative: 1e-3. threads: of this fit and of the scores, 0: as many as the process may use.
 *  On success *prior is to be freed by dynkin_prior_free; otherwise it is set to NULL. */
dynkin_status dynkin_prior_fit(const char* samples_npy, const char* kind, int degree, double ridge,
                               int threads, dynkin_prior** prior);

/** Reads a prior from a file that dynkin_prior_save or `dynkin fit --prior` wrote. */
dynkin_status dynkin_prior_load(const char* path, int threads, dynkin_prior** prior);

/** Writes it: complete, or not at all. */
dynkin_status dynkin_prior_save(const dynkin_prior* prior, const char* path);

/** NULL is allowed. */
void dynkin_prior_free(dynkin_prior* prior);

/** Numbers a row; 0 for NULL. */
size_t dynkin_prior_dimension(const dynkin_prior* prior);

/** Largest sigma in the convention EDM; 0 for NULL. */
double dynkin_prior_largest_noise(const dynkin_prior* prior);

/** Where scores are computed from now on: "cpu", as at first, "cuda", or "auto", on a CUDA device if there is
 *  one. device_memory: bytes that they may take there, 0: what is free. Not while another thread computes
 *  scores of this prior. When it fails, all is as before. */
dynkin_status dynkin_prior_set_device(dynkin_prior* prior, const char* device, size_t device_memory);

/** out[n * out_stride + j] = d/dx_j log p_sigma(x_n) for n < rows, j < dimension. Strides in numbers, at
 * least the dimension. sigma: `sigmas` of them, each in (0, largest]: 1 for all rows; DYNKIN_EACH_ROW, or
 * `rows` where that is not 1, one a row. In float32 the score of a product at a sigma a row comes from a
 * table over sigma, within 5e-4 of max(1, |sigma score|); results do not depend on the other rows of a batch.
 * out may be x when the strides agree. A NaN in a row of x gives NaN in that row. */
dynkin_status dynkin_prior_score_f32(const dynkin_prior* prior, size_t rows, const float* x, size_t x_stride,
                                     const double* sigma, size_t sigmas, int convention, float* out,
                                     size_t out_stride);
dynkin_status dynkin_prior_score_f64(const dynkin_prior* prior, size_t rows, const double* x, size_t x_stride,
                                     const double* sigma, size_t sigmas, int convention, double* out,
                                     size_t out_stride);

#ifdef __cplusplus
}
#endif
#endif
