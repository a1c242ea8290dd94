// solve_device.cpp - many regularised systems on the device: factors, raised ridges, solutions, conditions.
#include "solve_device.h"
#include "../kernels/device_times.h"
#include "error.h"
#include <algorithm>
#include <cmath>
#include <lapacke.h>
#include <numeric>

namespace dynkin {

using std::size_t;

namespace {

constexpr const char* what = "the linear systems";

double root(double lambda) { return 1 / std::sqrt(lambda); }

} // namespace

DeviceSolver::DeviceSolver(DeviceState& device, std::span<const double> lambda, size_t systems)
    : device_(device), size_(lambda.size()), stride_(0), scale_(size_) {
    std::transform(lambda.begin(), lambda.end(), scale_.begin(), root);
    scale_on_device_ = to_device(device, std::span<const double>(scale_), what);
    allocate(systems);
}

DeviceSolver::DeviceSolver(DeviceState& device, size_t size, size_t systems)
    : device_(device), size_(size), stride_(size), scale_(size * systems),
      scale_on_device_(device, size * systems, what) {
    allocate(systems);
}

void DeviceSolver::allocate(size_t systems) {
    host_norms_.resize(systems * size_);
    factors_ = {device_, systems * size_ * size_, what};
    if (!batched()) workspace_ = {device_, cuda::cholesky_workspace(device_, size_, factors_.data()), what};
    sides_ = {device_, systems * size_, what}, norms_ = {device_, systems * size_, what};
    matrix_pointers_ = {device_, systems, what}, side_pointers_ = {device_, systems, what};
    systems_ = {device_, systems, what};
    info_ = {device_, systems + 1, what}; // the last: of solutions
}

void DeviceSolver::scale_by(const Array<double>& lambda) {
    std::transform(lambda.begin(), lambda.end(), scale_.begin(), root);
    scale_on_device_.upload(device_.compute_stream(), std::span<const double>(scale_).first(lambda.size()));
}

size_t DeviceSolver::most_systems(DeviceState& device, size_t size, bool own_scalings) {
    device.libraries(); // their memory is gone from what is left
    const size_t matrix = size * size * sizeof(double), rounding = 4096, numbers = own_scalings ? 3 : 2;
    const size_t rest =
        numbers * size * sizeof(double) + 2 * sizeof(double*) + sizeof(cuda::RidgeSystem) + sizeof(int);
    const size_t once =
        rounding + size * sizeof(double) + (size > largest_batched ? matrix : 0); // and a workspace
    return (device.memory_left() - std::min<size_t>(device.memory_left(), once)) / (2 * matrix + rest);
}

/// Where the systems of these numbers stand, for the batched calls.
void DeviceSolver::point_at(const std::vector<int>& numbers) {
    std::vector<double*> matrices, sides;
    for (const int number : numbers) matrices.push_back(factor(number)), sides.push_back(side(number));
    matrix_pointers_.upload(device_.compute_stream(), matrices);
    side_pointers_.upload(device_.compute_stream(), sides);
}

/// Factors of these systems at the ridges of `status`; 0, or what is wrong, for each.
std::vector<int> DeviceSolver::try_factorise(const double* a, const std::vector<int>& numbers,
                                             const std::vector<SolveStatus>& status) {
    std::vector<cuda::RidgeSystem> systems;
    for (const int number : numbers) systems.push_back({number, status[static_cast<size_t>(number)].ridge});
    systems_.upload(device_.compute_stream(), systems);
    if (batched()) point_at(numbers);
    timed(device_, "solve.factor", [&] {
        cuda::scaled_systems(device_.compute_stream(), systems_.data(), systems.size(), size_, a,
                             scale_on_device_.data(), stride_, factors_.data(), norms_.data());
        if (batched())
            cuda::cholesky_batched(device_, size_, matrix_pointers_.data(), info_.data(), numbers.size());
        else
            for (size_t k = 0; k < numbers.size(); ++k)
                cuda::cholesky(device_, size_, factor(numbers[k]), workspace_.data(), workspace_.size(),
                               info_.data() + k);
    });
    std::vector<int> info(numbers.size());
    info_.download(device_.compute_stream(), info);
    norms_.download(device_.compute_stream(), host_norms_);
    cuda::synchronize(device_.compute_stream());
    for (size_t k = 0; k < numbers.size();
         ++k) // a matrix that is not finite, whatever the library makes of it
        if (!std::isfinite(norm(static_cast<size_t>(numbers[k])))) info[k] = 1;
    return info;
}

/// Raises the ridges of those that are not positive definite tenfold until they are, or until 1 did not help.
void DeviceSolver::factorise(const double* a, std::vector<SolveStatus>& status, std::vector<char>& factored) {
    std::vector<int> open(status.size());
    std::iota(open.begin(), open.end(), 0);
    while (!open.empty()) {
        const std::vector<int> info = try_factorise(a, open, status);
        std::vector<int> failed;
        for (size_t k = 0; k < open.size(); ++k) {
            const auto number = static_cast<size_t>(open[k]);
            if (info[k] == 0)
                factored[number] = 1;
            else if (raise_ridge(status[number]))
                failed.push_back(open[k]);
        }
        open = std::move(failed);
    }
}

/// The sides of these systems become solutions.
void DeviceSolver::back_substitute(const std::vector<int>& numbers) {
    int* info = info_.data() + info_.size() - 1;
    if (batched()) point_at(numbers);
    timed(device_, "solve.substitute", [&] {
        if (batched())
            cuda::cholesky_solve_batched(device_, size_, matrix_pointers_.data(), side_pointers_.data(), info,
                                         numbers.size());
        else
            for (const int number : numbers)
                cuda::cholesky_solve(device_, size_, factor(number), side(number), info);
    });
}

/// The 1-norm; NaN where the matrix has one.
double DeviceSolver::norm(size_t number) const {
    double most = 0;
    for (size_t k = 0; k < size_; ++k) {
        const double row = host_norms_[number * size_ + k];
        if (!(row <= most)) most = row;
        if (std::isnan(row)) break;
    }
    return most;
}

/// LAPACK's dpocon with its solves on the device: dlacn2 asks for products with the inverse, of all systems
/// in step.
void DeviceSolver::estimate_conditions(const std::vector<int>& numbers, std::vector<SolveStatus>& status) {
    struct Estimate {
        Array<double> v, x; // aligned: sums of the BLAS depend on it in the last bit
        std::vector<int> signs;
        double inverse_norm = 0;
        int request = 0, state[3] = {};
    };
    std::vector<Estimate> estimates(numbers.size(),
                                    {Array<double>(size_), Array<double>(size_), std::vector<int>(size_)});
    for (;;) {
        std::vector<int> open;
        for (size_t k = 0; k < numbers.size(); ++k) {
            Estimate& e = estimates[k];
            if (e.request < 0) continue;
            LAPACKE_dlacn2(static_cast<int>(size_), e.v.data(), e.x.data(), e.signs.data(), &e.inverse_norm,
                           &e.request, e.state);
            if (e.request == 0) { // done
                const double reciprocal = 1 / e.inverse_norm / norm(static_cast<size_t>(numbers[k]));
                status[static_cast<size_t>(numbers[k])].condition =
                    reciprocal > 0 ? 1 / reciprocal : INFINITY;
                e.request = -1;
                continue;
            }
            sides_.upload(device_.compute_stream(), e.x.span(), static_cast<size_t>(numbers[k]) * size_);
            open.push_back(numbers[k]);
        }
        if (open.empty()) return;
        back_substitute(open);
        for (size_t k = 0; k < numbers.size(); ++k)
            if (estimates[k].request > 0)
                sides_.download(device_.compute_stream(), estimates[k].x.span(),
                                static_cast<size_t>(numbers[k]) * size_);
        cuda::synchronize(device_.compute_stream());
    }
}

std::vector<SolveStatus> DeviceSolver::solve(const double* a, const Array<double>& b, double ridge,
                                             Array<double>& c) {
    std::vector<SolveStatus> status(b.rows());
    for (SolveStatus& s : status) s.ridge = ridge;
    std::vector<char> factored(b.rows(), 0);
    factorise(a, status, factored);
    std::vector<int> numbers;
    for (size_t m = 0; m < b.rows(); ++m)
        if (factored[m]) numbers.push_back(static_cast<int>(m));
    if (numbers.empty()) return status;
    estimate_conditions(numbers, status);
    std::vector<double> x(b.rows() * size_);
    for (size_t m = 0; m < b.rows(); ++m)
        for (size_t k = 0; k < size_; ++k) x[m * size_ + k] = scale(m)[k] * b(m, k);
    sides_.upload(device_.compute_stream(), x);
    back_substitute(numbers);
    sides_.download(device_.compute_stream(), x);
    cuda::synchronize(device_.compute_stream());
    for (const int number : numbers) {
        const auto m = static_cast<size_t>(number);
        std::vector<double> solution(size_);
        for (size_t k = 0; k < size_; ++k) solution[k] = x[m * size_ + k] * scale(m)[k];
        status[m].solved =
            std::all_of(solution.begin(), solution.end(), [](double y) { return std::isfinite(y); });
        if (status[m].solved) std::copy(solution.begin(), solution.end(), c.row(m));
    }
    return status;
}

std::vector<SolveStatus> solve_in_batches(const Context& context, const SystemSource& source, double ridge,
                                          Array<double>& coefficients, Progress* progress) {
    DeviceState& device = context.device_state();
    const bool shared = !source.lambda.empty();
    const size_t k = shared ? source.lambda.size() : coefficients.cols(), all = source.count;
    const size_t batch =
        std::clamp(DeviceSolver::most_systems(device, k, !shared), size_t{1}, std::max(all, size_t{1}));
    DeviceArray<double> a(device, batch * k * k, "the Gram matrices");
    DeviceSolver solver =
        shared ? DeviceSolver(device, source.lambda, batch) : DeviceSolver(device, k, batch);
    std::vector<SolveStatus> status;
    for (size_t first = 0; first < all; first += batch) {
        const size_t count = std::min(batch, all - first);
        source.matrices(first, count, a.data());
        if (!shared) solver.scale_by(source.scalings(first, count));
        Array<double> c(count, k);
        const auto found = solver.solve(a.data(), source.sides(first, count), ridge, c);
        status.insert(status.end(), found.begin(), found.end());
        for (size_t m = 0; m < count; ++m)
            if (found[m].solved) std::copy_n(c.row(m), k, coefficients.row(first + m));
        if (progress) progress->set(first + count);
        if (const int signal = context.interrupt_signal()) throw Interrupted(signal);
    }
    return status;
}

std::vector<SolveStatus>
solve_in_batches(const Context& context, std::span<const double> lambda, std::span<const double> times,
                 double ridge, const std::function<void(std::span<const double>, double*)>& matrices,
                 const std::function<Array<double>(std::span<const double>)>& sides,
                 Array<double>& coefficients) {
    Progress progress(context, "solve", times.size());
    const SystemSource source{
        times.size(),
        lambda,
        [&](size_t first, size_t count, double* a) { matrices(times.subspan(first, count), a); },
        [&](size_t first, size_t count) { return sides(times.subspan(first, count)); },
        {}};
    return solve_in_batches(context, source, ridge, coefficients, &progress);
}

} // namespace dynkin
