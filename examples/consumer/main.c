/* main.c - a user's program in C: fits a prior to a file, keeps it, and checks its score against the exact
 * one of N(1, 4) at every noise level. */
#include <dynkin/dynkin.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 4000 };

/* Quantiles of N(1, 4) in a .npy of shape (ROWS, 1), by bisection of the error function. */
static int write_samples(const char* path) {
    char header[128];
    FILE* file = fopen(path, "wb");
    int n;
    if (!file) return 1;
    memset(header, ' ', sizeof header);
    memcpy(header, "\x93NUMPY\x01\x00\x76\x00", 10);
    n = snprintf(header + 10, 117, "{'descr': '<f8', 'fortran_order': False, 'shape': (%d, 1), }", ROWS);
    header[10 + n] = ' ';
    header[127] = '\n';
    fwrite(header, 1, sizeof header, file);
    for (n = 0; n < ROWS; ++n) {
        double low = -8, high = 8, p = (n + 0.5) / ROWS;
        while (high - low > 1e-12) {
            const double middle = 0.5 * (low + high);
            if (0.5 * erfc(-middle / sqrt(2.0)) < p)
                low = middle;
            else
                high = middle;
        }
        low = 1 + 2 * low;
        fwrite(&low, sizeof low, 1, file);
    }
    return fclose(file);
}

static int fail(const char* what) {
    fprintf(stderr, "%s: %s\n", what, dynkin_last_error());
    return 1;
}

int main(void) {
    const double x[3] = {-1.5, 0.5, 4}, sigma[3] = {0.5, 1, 6};
    double score[3], largest = 0;
    float single[3], y[3] = {-1.5f, 0.5f, 4};
    dynkin_prior *prior = NULL, *copy = NULL;
    int n;
    if (write_samples("samples.npy")) return fail("samples.npy");
    if (dynkin_prior_fit("samples.npy", "gaussian", 0, -1, 1, &prior)) return fail("fit");
    if (dynkin_prior_save(prior, "samples.prior")) return fail("save");
    if (dynkin_prior_load("samples.prior", 1, &copy)) return fail("load");
    if (dynkin_prior_dimension(copy) != 1) return fail("dimension");
    if (dynkin_prior_score_f64(copy, 3, x, 1, sigma, 3, DYNKIN_EDM, score, 1)) return fail("score");
    if (dynkin_prior_score_f32(prior, 3, y, 1, sigma, 3, DYNKIN_EDM, single, 1)) return fail("score");
    for (n = 0; n < 3; ++n) {
        const double exact = -(x[n] - 1) / (4 + sigma[n] * sigma[n]);
        largest = fmax(largest, fmax(fabs(score[n] - exact), fabs(single[n] - exact)));
    }
    if (dynkin_prior_score_f64(prior, 3, x, 1, sigma, 2, DYNKIN_EDM, score, 1) != DYNKIN_USAGE)
        return fail("two levels for three rows were taken");
    printf("largest difference to the exact score %.1e\nan error: %s\n", largest, dynkin_last_error());
    dynkin_prior_free(prior);
    dynkin_prior_free(copy);
    return largest < 1e-3 ? 0 : 1;
}
