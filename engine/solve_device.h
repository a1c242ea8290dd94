// solve_device.h - many regularised systems of one size on the device (private).
#pragma once
#include "../kernels/device.h"
#include "../kernels/solve_cuda.h"
#include "context.h"
#include "progress.h"
#include "solve.h"
#include <functional>
#include <span>
#include <vector>

namespace dynkin {

/// Solves batches of systems of one size K as solve_score_system() does, by cuSOLVER: those of at most 256
/// unknowns together, larger ones one after another. Which way depends on K alone, and no system on the
/// others, so that batches do not change results. The condition is LAPACK's estimate, its solves done on the
/// device. Memory: K^2 numbers a system, beside its matrix.
class DeviceSolver {
  public:
    static constexpr std::size_t largest_batched = 256;

    /// For up to `systems` at once, with D = diag(lambda). Throws Error(io) when there is no memory for them.
    DeviceSolver(DeviceState& device, std::span<const double> lambda, std::size_t systems);
    /// Each system with a scaling of its own, which scale_by() says before it is solved.
    DeviceSolver(DeviceState& device, std::size_t size, std::size_t systems);
    /// lambda.row(m): of the m-th.
    void scale_by(const Array<double>& lambda);

    /// How many systems of that size the device's memory holds, each with its matrix and, if so, its scaling.
    static std::size_t most_systems(DeviceState& device, std::size_t size, bool own_scalings = false);

    /// a: matrices on the device (systems x K x K, both triangles), kept. b.row(m), c.row(m): sides and
    /// solutions; rows of c that were not solved are left alone. Enqueued work on the compute stream is
    /// waited for.
    std::vector<SolveStatus> solve(const double* a, const Array<double>& b, double ridge, Array<double>& c);

  private:
    void allocate(std::size_t systems);
    const double* scale(std::size_t number) const { return scale_.data() + number * stride_; }
    void factorise(const double* a, std::vector<SolveStatus>& status, std::vector<char>& factored);
    std::vector<int> try_factorise(const double* a, const std::vector<int>& numbers,
                                   const std::vector<SolveStatus>& status);
    void back_substitute(const std::vector<int>& numbers);
    void estimate_conditions(const std::vector<int>& numbers, std::vector<SolveStatus>& status);
    double norm(std::size_t number) const;
    double* side(int number) { return sides_.data() + static_cast<std::size_t>(number) * size_; }
    double* factor(int number) { return factors_.data() + static_cast<std::size_t>(number) * size_ * size_; }
    bool batched() const { return size_ <= largest_batched; }
    void point_at(const std::vector<int>& numbers);

    DeviceState& device_;
    std::size_t size_, stride_; ///< stride: between the scalings of two systems
    std::vector<double> scale_; ///< D^-1/2
    DeviceArray<double> scale_on_device_, factors_, sides_, norms_, workspace_;
    DeviceArray<double*> matrix_pointers_, side_pointers_;
    DeviceArray<cuda::RidgeSystem> systems_;
    DeviceArray<int> info_;
    std::vector<double> host_norms_;
};

/// What batches of systems are solved from: of the systems first, .., first + count - 1, matrices(first,
/// count, a) enqueues A, both triangles; sides(first, count), and scalings unless all share `lambda`, have a
/// row for each.
struct SystemSource {
    std::size_t count;
    std::span<const double> lambda; ///< empty: scalings
    std::function<void(std::size_t, std::size_t, double*)> matrices;
    std::function<Array<double>(std::size_t, std::size_t)> sides, scalings;
};
/// Solves all of them, as many at once as the memory holds: coefficients.row(m), K numbers, where
/// status[m].solved. progress: null, or of all systems. Throws Interrupted.
std::vector<SolveStatus> solve_in_batches(const Context& context, const SystemSource& source, double ridge,
                                          Array<double>& coefficients, Progress* progress);

/// Solves A(t) c = b(t) at each of the times: matrices(times, a) and sides(times) of some of them. Reports
/// progress as "solve".
std::vector<SolveStatus>
solve_in_batches(const Context& context, std::span<const double> lambda, std::span<const double> times,
                 double ridge, const std::function<void(std::span<const double>, double*)>& matrices,
                 const std::function<Array<double>(std::span<const double>)>& sides,
                 Array<double>& coefficients);

} // namespace dynkin
