// chain_cuda.cu - exact draws of chains on the device, eight threads a row, a thread a lane of chain_cpu.cpp.
#include "chain.h"
#include "gpu.h"

namespace dynkin::cuda {
namespace {

constexpr unsigned block_threads = 128, lanes = static_cast<unsigned>(chain_lanes);

/// The eight threads of a row, neighbours in a warp.
class Octet {
  public:
    __device__ Octet() : lane_(threadIdx.x % lanes), mask_(0xffu << (threadIdx.x % 32 / lanes * lanes)) {}
    __device__ unsigned lane() const { return lane_; }
    __device__ void sync() const { __syncwarp(mask_); }
    /// The sums of all lanes, and their sum in order.
    __device__ void gather(double sum, ChainWindow& w) const {
        w.total = 0;
#pragma unroll
        for (unsigned j = 0; j < lanes; ++j) {
            w.lane[j] = __shfl_sync(mask_, sum, static_cast<int>(j), lanes);
            w.total += w.lane[j];
        }
    }

  private:
    unsigned lane_, mask_;
};

/// One row; the twin of Row in chain_cpu.cpp.
struct Row {
    const ChainView& v;
    std::size_t modes;
    Octet octet;
    std::uint64_t seed, row;
    double* x;
    double *p, *m, *coefficient;
    double x0, last;

    /// Site i was drawn: the same number in all threads.
    __device__ bool put(std::size_t i, bool good) {
        if (octet.lane() == 0) x[i] = last;
        octet.sync(); // all have read p and m
        return good;
    }

    __device__ bool draw_first() {
        ChainWindow w{0, v.stride, {}, 0};
        double sum = 0;
        for (std::size_t k = octet.lane(); k < v.stride; k += lanes) sum += v.first[k];
        octet.gather(sum, w);
        const bool good = draw_site(v, w, v.first, v.first, 0, {0, 0.0}, seed, row, 0, last);
        x0 = last;
        if (v.ring) {
            const double t = (x0 - v.origin) / v.step;
            for (std::size_t r = octet.lane(); r < modes; r += lanes)
                coefficient[r] = interpolate(v, v.message + r * v.stride, t);
        }
        return put(0, good);
    }

    __device__ void weigh(const ChainNeighbour& near, const double* message, ChainWindow& w) const {
        const double rate = v.coupling * v.step * near.offset;
        const double start = static_cast<double>(w.from) - static_cast<double>(near.centre);
        const double* gauss =
            v.gauss + static_cast<std::ptrdiff_t>(w.from) - static_cast<std::ptrdiff_t>(near.centre);
        double tilt = portable_exp(rate * (start + static_cast<double>(octet.lane()))), sum = 0;
        const double ahead = portable_exp(rate * lanes);
        for (std::size_t k = octet.lane(); k < w.to - w.from; k += lanes) {
            const double value = gauss[k] * tilt * message[w.from + k];
            const double kept = value > 0 ? value : 0.0;
            p[w.from + k] = kept;
            sum += kept;
            tilt *= ahead;
        }
        octet.gather(sum, w);
        octet.sync();
    }

    /// m of site i on the window, and as far around it as interpolation reaches.
    __device__ const double* message(std::size_t i, const ChainWindow& w) const {
        if (!v.ring) return v.message + (v.sites - 1 - i) * v.stride;
        const std::size_t gap = v.sites - i;
        const std::size_t from = w.from < lanes ? 0 : w.from - lanes;
        const std::size_t to = std::min(w.to + lanes, v.stride);
        for (std::size_t k = from + octet.lane(); k < to; k += lanes) {
            const double u = v.origin + static_cast<double>(k) * v.step - x0;
            m[k] = gap > 1 ? sum_of_modes(gap, k) : v.weight[k] * portable_exp(-0.5 * v.coupling * u * u);
        }
        octet.sync();
        return m;
    }
    __device__ double sum_of_modes(std::size_t gap, std::size_t k) const {
        const double* power = v.power + gap * modes;
        double sum = 0;
        for (std::size_t r = 0; r < v.rank[gap]; ++r)
            sum += coefficient[r] * power[r] * v.message[r * v.stride + k];
        return sum;
    }

    __device__ bool draw_next(std::size_t i) {
        const ChainNeighbour near = locate(v, last);
        for (std::size_t reach = v.reach;; reach *= 2) {
            ChainWindow w = window_around(v, near.centre, reach);
            const double* density = message(i, w);
            weigh(near, density, w);
            const bool enough = is_wide_enough(v, w, p) || w.to - w.from == v.stride;
            if (enough) return put(i, draw_site(v, w, p, density, v.coupling, near, seed, row, i, last));
            octet.sync(); // all have read p and m
        }
    }
};

__global__ void __launch_bounds__(block_threads)
    chain_kernel(ChainView view, std::size_t modes, std::uint64_t seed, std::size_t first, std::size_t count,
                 double* x, ChainTeams teams) {
    const std::size_t team = (static_cast<std::size_t>(blockIdx.x) * block_threads + threadIdx.x) / lanes;
    if (team >= teams.count) return;
    const Octet octet;
    double* memory = teams.memory + team * (2 * view.stride + modes);
    bool good = true;
    for (std::size_t n = team; n < count; n += teams.count) {
        Row row{view,
                modes,
                octet,
                seed,
                first + n,
                x + n * view.sites,
                memory,
                memory + view.stride,
                memory + 2 * view.stride,
                0,
                0};
        good = row.draw_first() && good;
        for (std::size_t i = 1; i < view.sites && good; ++i) good = row.draw_next(i);
    }
    if (octet.lane() == 0) teams.failed[team] = good ? 0 : 1;
}

} // namespace

void draw_chains(DeviceStream stream, const ChainView& view, std::size_t rank, std::uint64_t seed,
                 std::size_t first, std::size_t count, double* x, const ChainTeams& teams) {
    if (count == 0) return;
    gpu::launch(chain_kernel, gpu::blocks_for(teams.count * lanes, block_threads), block_threads, 0, stream,
                view, rank, seed, first, count, x, teams);
}

} // namespace dynkin::cuda
