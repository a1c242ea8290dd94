// linear_systems_device.cpp - the systems of a linear process at many times on the device: moments by the
// exponential of the generator, whitened, to matrices. The laws, d x d, come from the host.
#include "../kernels/device_times.h"
#include "../kernels/linear_cuda.h"
#include "../kernels/prior_cuda.h"
#include "exponential_device.h"
#include "linear.h"
#include "solve_device.h"
#include <algorithm>
#include <numeric>

namespace dynkin {

using std::size_t;

namespace {

constexpr const char* what = "the systems of a linear process";

/// Tables, and working space for one time.
class SystemSpace {
  public:
    SystemSpace(DeviceState& device, const kernels::LinearTables& host, std::span<const int> starts)
        : device_(device), starts_(starts), count_(static_cast<size_t>(host.count)),
          size_(static_cast<size_t>(host.size)), exponents_(there(host.exponents, count_ * dimension(host))),
          lower_(there(host.lower, count_ * dimension(host))), sums_(there(host.sums, size_ * size_)),
          coordinate_(there(host.coordinate, count_)), before_(there(host.before, count_)),
          hermite_(there(host.hermite, size_ * size_)), polynomial_(device, count_ * count_, what),
          white_(device, count_, what), powers_(device, size_ * size_, what),
          half_(device, size_ * size_, what), tables_{host.dimension,     host.count,     host.size,
                                                      exponents_.data(),  lower_.data(),  sums_.data(),
                                                      coordinate_.data(), before_.data(), hermite_.data()} {}

    /// a, b from moments of x and the law at their time.
    void assemble(const double* moments, const double* law, double* a, double* b) {
        const DeviceStream stream = device_.compute_stream();
        cuda::whitened_monomials(stream, tables_, law, 0, 1, polynomial_.data());
        for (size_t degree = 1; degree + 1 < starts_.size(); ++degree)
            cuda::whitened_monomials(stream, tables_, law, starts_[degree], starts_[degree + 1],
                                     polynomial_.data());
        cuda::product(device_, false, count_, 1, count_, polynomial_.data(), moments, 0.0, white_.data());
        cuda::power_products(stream, tables_, white_.data(), powers_.data());
        cuda::product(device_, false, size_, size_, size_, hermite_.data(), powers_.data(), 0.0,
                      half_.data());
        cuda::product(device_, true, size_, size_, size_, half_.data(), hermite_.data(), 0.0, powers_.data());
        cuda::linear_system(stream, tables_, powers_.data(), a, b);
    }

  private:
    static size_t dimension(const kernels::LinearTables& host) { return static_cast<size_t>(host.dimension); }
    template <class T> DeviceArray<T> there(const T* from, size_t count) const {
        return to_device(device_, std::span<const T>(from, count), what);
    }

    DeviceState& device_;
    std::span<const int> starts_; ///< of the degrees, and the end
    size_t count_, size_;
    DeviceArray<int> exponents_, lower_, sums_, coordinate_, before_;
    DeviceArray<double> hermite_, polynomial_, white_, powers_, half_;
    kernels::LinearTables tables_;
};

} // namespace

std::vector<LinearState> LinearField::at_on_device(const Context& context,
                                                   std::span<const double> times) const {
    DeviceState& device = context.device_state();
    const DeviceStream stream = device.compute_stream();
    device.libraries();
    const size_t n = moments_.size(), k = basis_.size(), d = dimension(), law = d + d * d;
    std::vector<int> starts;
    for (size_t p = 0, degree = 0; p < n; ++p)
        if (const int* alpha = moments_.at(p); std::accumulate(alpha, alpha + d, size_t{0}) == degree)
            starts.push_back(static_cast<int>(p)), ++degree;
    starts.push_back(static_cast<int>(n));
    const DeviceArray<double> generator = to_device(device, generator_.span(), what),
                              initial = to_device(device, std::span<const double>(initial_), what);
    DeviceArray<double> moments(device, times.size() * n, what), laws(device, times.size() * law, what),
        sides(device, times.size() * (k - 1), what);
    SystemSpace space(device, tables(), starts);
    DeviceExponential exponential(device, n);
    std::vector<LinearState> states(times.size());

    const double norm = one_norm(generator_);
    for (size_t m = 0; m < times.size(); ++m)
        cuda::product(device, false, n, 1, n, exponential.run(generator.data(), times[m], times[m] * norm),
                      initial.data(), 0.0, moments.data() + m * n);
    Array<double> host_moments(times.size(), n), host_laws(times.size(), law);
    moments.download(stream, host_moments.span());
    cuda::synchronize(stream);
    for (size_t m = 0; m < times.size(); ++m) {
        states[m] = law_at(times[m], {host_moments.row(m), n});
        std::copy_n(states[m].mean.begin(), d, host_laws.row(m));
        std::copy_n(states[m].inverse.begin(), d * d, host_laws.row(m) + d);
    }
    laws.upload(stream, host_laws.span());

    const SystemSource source{times.size(),
                              lambda_,
                              [&](size_t first, size_t count, double* a) {
                                  timed(device, "linear.systems", [&] {
                                      for (size_t m = first; m < first + count; ++m)
                                          space.assemble(moments.data() + m * n, laws.data() + m * law,
                                                         a + (m - first) * (k - 1) * (k - 1),
                                                         sides.data() + m * (k - 1));
                                  });
                              },
                              [&](size_t first, size_t count) {
                                  Array<double> b(count, k - 1);
                                  sides.download(stream, b.span(), first * (k - 1));
                                  cuda::synchronize(stream);
                                  return b;
                              },
                              {}};
    Array<double> c(times.size(), k - 1);
    const auto status = solve_in_batches(context, source, ridge_, c, nullptr);
    for (size_t m = 0; m < times.size(); ++m)
        take_solution(times[m], status[m], {c.row(m), k - 1}, states[m]);
    return states;
}

} // namespace dynkin
