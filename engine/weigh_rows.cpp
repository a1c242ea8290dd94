// weigh_rows.cpp - one pass over the rows of a file: energies, log weights, means over sites.
#include "../kernels/device.h"
#include "../kernels/weights.h"
#include "error.h"
#include "npy.h"
#include "progress.h"
#include "weigh.h"
#include "weights_device.h"
#include <algorithm>

namespace dynkin {
namespace {

void weigh_block(const TargetEnergy& energy, std::size_t d, std::size_t first, std::size_t count,
                 const std::vector<double>& x, const std::vector<double>& log_density, WeighedRows& out) {
    energy(count, x.data(), out.energy.data() + first);
    for (std::size_t n = 0; n < count; ++n) {
        out.log_weight[first + n] = log_weight_of(out.energy[first + n], log_density[n]);
        double sum = 0;
        for (std::size_t i = 0; i < d; ++i) sum += x[n * d + i];
        out.site_mean[first + n] = sum / static_cast<double>(d);
    }
}

/// Rows in memory at a time: 8 MiB of them, whatever the samples.
WeighedRows weigh_rows_on_cpu(const Context& context, const Target& target, const SampleFile& samples,
                              const SampleFile& log_density) {
    const std::size_t rows = samples.rows(), d = samples.cols(),
                      block = std::clamp<std::size_t>((1u << 20) / d, 1, rows);
    WeighedRows out{std::vector<double>(rows), std::vector<double>(rows), std::vector<double>(rows)};
    std::vector<double> x(block * d), log_q(block);
    const TargetEnergy energy(context, target);
    Progress progress(context, "weigh", rows);
    for (std::size_t first = 0; first < rows; first += block) {
        if (progress.interrupted()) progress.throw_interrupted();
        const std::size_t count = std::min(block, rows - first);
        samples.read_any(first, count, x.data());
        log_density.read_any(first, count, log_q.data());
        weigh_block(energy, d, first, count, x, log_q, out);
        progress.advance(count);
    }
    return out;
}

} // namespace

WeighedRows weigh_rows(const Context& context, const Target& target, const SampleFile& samples,
                       const SampleFile& log_density) {
    require(target.has_energy() && samples.cols() == target.dimension(), ErrorKind::usage,
            "weigh_rows: the samples have another dimension than the target, or it has no energy");
    require(log_density.cols() == 1 && log_density.rows() == samples.rows(), ErrorKind::usage,
            "weigh_rows: expected one log density a sample");
    if constexpr (built_with_cuda)
        if (context.device() == Device::cuda)
            return weigh_rows_on_device(context, target, samples, log_density);
    return weigh_rows_on_cpu(context, target, samples, log_density);
}

} // namespace dynkin
