// fitted_score.h - scores of nonlinear processes with a reference, one step of the reversed process, and the
// entropy production of a point: formulas for host and device. docs/method.md, section 11.
#pragma once
#include "drift.h"
#include "engine/local_dsm.h"
#include "local_law.h"
#include "score_basis.h"

namespace dynkin {

/// What kernels read of a ScoreReference; precision (d x d) and mean, or offset = precision mean.
struct ReferenceView {
    ReferenceScore kind;
    const double *mean, *precision;
};

/// Component i of the reference's score at x. f: the drift there, for ReferenceScore::drift.
DYNKIN_HD double reference_component(const ReferenceView& reference, int d, const double* noise,
                                     const double* f, const double* x, int i) {
    if (reference.kind == ReferenceScore::drift) return 2 * f[i] / (noise[i] * noise[i]);
    double score = 0;
    if (reference.kind == ReferenceScore::gaussian)
        for (int j = 0; j < d; ++j) score -= reference.precision[i * d + j] * (x[j] - reference.mean[j]);
    return score;
}

/// The score of a model at one time: coefficients; the range beyond which grad h is that at its border; the
/// reference's score, offset - precision x, where it is a Gaussian.
struct ScoreAtView {
    ReferenceScore kind;
    const double *coefficients, *lower, *upper, *offset, *precision;
};

/// What is the same for all steps of a reversed process.
struct ReverseModel {
    ScoreBasisView basis;
    const double* noise;
};

/// The score in the driven coordinates at x, whose drift is f. table: room for the functions of one point.
DYNKIN_HD void model_score(const ReverseModel& model, const ScoreAtView& at, const FunctionTable& table,
                           const double* f, const double* x, double* score) {
    const ScoreBasisView& basis = model.basis;
    for (int j = 0; j < basis.dimension; ++j)
        table.fill(basis, j, x[j] < at.lower[j] ? at.lower[j] : x[j] > at.upper[j] ? at.upper[j] : x[j]);
    potential_gradient(basis, at.coefficients, table, score);
    for (int a = 0; a < basis.driven_count; ++a) {
        const int i = basis.driven[a];
        if (at.kind == ReferenceScore::drift) score[a] += 2 * f[i] / (model.noise[i] * model.noise[i]);
        if (at.kind != ReferenceScore::gaussian) continue;
        score[a] += at.offset[i];
        for (int j = 0; j < basis.dimension; ++j) score[a] -= at.precision[i * basis.dimension + j] * x[j];
    }
}

/// The drift of the reversed process, -f + g^2 score.
template <class View> DYNKIN_HD void reverse_slope(const View& law, const ReverseModel& model,
                                                   const ScoreAtView& at, const FunctionTable& table,
                                                   const double* x, double* out) {
    double score[max_drift_dimension], f[max_drift_dimension];
    drift(law, x, f);
    model_score(model, at, table, f, x, score);
    for (int i = 0; i < law.dimension; ++i) out[i] = -f[i];
    for (int a = 0; a < model.basis.driven_count; ++a) {
        const int i = model.basis.driven[a];
        out[i] += model.noise[i] * model.noise[i] * score[a];
    }
}

/// x after one step of Heun's rule with normals xi, from one time to the next; true when x was beyond a
/// quarter of the range and has been put back there.
template <class View> DYNKIN_HD bool reverse_step(const View& law, const ReverseModel& model,
                                                  const ScoreAtView& from, const ScoreAtView& to,
                                                  const FunctionTable& table, double h, const double* xi,
                                                  double* x) {
    double f[max_drift_dimension], g[max_drift_dimension], ahead[max_drift_dimension];
    const int d = law.dimension;
    const double root = std::sqrt(h);
    reverse_slope(law, model, from, table, x, f);
    for (int i = 0; i < d; ++i) ahead[i] = x[i] + h * f[i] + root * model.noise[i] * xi[i];
    reverse_slope(law, model, to, table, ahead, g);
    bool out = false;
    for (int i = 0; i < d; ++i) {
        x[i] += 0.5 * h * (f[i] + g[i]) + root * model.noise[i] * xi[i];
        const double margin = 0.25 * (to.upper[i] - to.lower[i]), low = to.lower[i] - margin,
                     high = to.upper[i] + margin;
        if (x[i] >= low && x[i] <= high) continue;
        out = true;
        x[i] = x[i] > high ? high : x[i] < low ? low : 0.5 * (low + high);
    }
    return out;
}

/// What coordinate i adds to the entropy production: nu^2 / (g^2 / 2), nu = f - g^2 / 2 score.
DYNKIN_HD double production_term(double noise, double f, double score) {
    const double diffusion = 0.5 * noise * noise, nu = f - diffusion * score;
    return nu * nu / diffusion;
}

} // namespace dynkin
