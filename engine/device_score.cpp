// device_score.cpp - the coefficients in the layout of the device's kernels, and the order of their launches.
#include "device_score.h"
#include "error.h"
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace dynkin {

using kernels::ScoreLayout;
using std::size_t;

namespace {

constexpr size_t chunk_values = size_t{1} << 19; // of one array of a chunk
constexpr size_t least_chunk = 1024, largest_chunk = 32768;

/// Products of two sites have degrees up to it.
int coupled_degree(const ScoreLayout& layout) {
    int degree = 0;
    for (const auto& neighbour : layout.neighbours) degree = std::max(degree, neighbour.degree);
    for (const auto& dense : layout.dense) degree = std::max({degree, dense.a, dense.b});
    return degree;
}

/// The tables of all families one after another, and where each begins.
template <class T>
std::vector<T> joined_tables(const kernels::ScorePlan<T>& plan, std::vector<size_t>& begin) {
    std::vector<T> all;
    for (const auto& f : plan.families) {
        begin.push_back(all.size());
        all.insert(all.end(), f.coefficients.begin(), f.coefficients.end());
    }
    return all;
}

template <class T> std::vector<cuda::ScoreFunctions<T>>
device_functions(const kernels::ScorePlan<T>& plan, const T* tables, const std::vector<size_t>& begin) {
    std::vector<cuda::ScoreFunctions<T>> out;
    for (size_t k = 0; k < plan.families.size(); ++k) {
        const kernels::SiteFunctions<T>& f = plan.families[k];
        cuda::ScoreFunctions<T>& to = out.emplace_back();
        to.hermite = f.hermite, to.lo = f.lo, to.hi = f.hi;
        to.coefficients = f.hermite ? nullptr : tables + begin[k];
        std::copy(std::begin(f.lambda), std::end(f.lambda), to.lambda);
        std::copy(std::begin(f.potential_slope), std::end(f.potential_slope), to.potential_slope);
        for (int n = 1; n < kernels::kMaxDegree + 2; ++n)
            to.root[n] = std::sqrt(static_cast<T>(n)), to.inverse_root[n] = 1 / to.root[n];
    }
    return out;
}

} // namespace

size_t score_chunk(size_t sites) {
    return std::clamp(std::bit_floor(chunk_values / sites), least_chunk, largest_chunk);
}

template <class T> DeviceScore<T>::DeviceScore(DeviceState& device, const ScoreField<T>& field,
                                               const std::vector<kernels::ScoreCoefficients<T>>& times)
    : device_(device), plan_(field.plan()) {
    const ScoreLayout& layout = plan_.layout;
    const size_t sites = static_cast<size_t>(layout.sites);
    shape_.sites = layout.sites, shape_.degree = layout.degree;
    shape_.coupled = coupled_degree(layout), shape_.width = std::clamp(shape_.coupled, 1, 4);
    shape_.chunk = score_chunk(sites);
    numbers_ = sites * shape_.chunk;
    require(static_cast<size_t>(shape_.coupled) * numbers_ * sizeof(T) <= UINT32_MAX, ErrorKind::usage,
            "score: too many coordinates for the device");
    first_row_.push_back(0);
    for (size_t i = 0; i < sites; ++i) {
        std::int32_t rows = first_row_.back();
        for (int e = layout.first_neighbour[i]; e < layout.first_neighbour[i + 1]; ++e)
            rows += layout.neighbours[static_cast<size_t>(e)].degree;
        first_row_.push_back(rows);
    }
    dense_of_.assign(static_cast<size_t>(shape_.coupled), -1);
    for (const auto& dense : layout.dense) {
        std::int32_t& to = dense_of_[static_cast<size_t>(dense.a - 1)];
        if (to < 0) to = shape_.dense++;
    }
    upload(times);
    const size_t coupled = static_cast<size_t>(shape_.coupled), matrices = static_cast<size_t>(shape_.dense);
    space_ = DeviceArray<T>(device, (2 * coupled + 2 + matrices) * numbers_, "values of the score");
    // Particles beyond those in use take part in the products of matrices.
    cuda::fill_zero(device.compute_stream(), space_.data(), space_.size() * sizeof(T));
    values_.phi = space_.data(), values_.slope = values_.phi + coupled * numbers_;
    values_.single = values_.slope + coupled * numbers_, values_.single_decay = values_.single + numbers_;
    values_.dense = values_.single_decay + numbers_;
}

template <class T> void DeviceScore<T>::upload(const std::vector<kernels::ScoreCoefficients<T>>& times) {
    const auto there = [&]<class U>(const std::vector<U>& host) {
        return to_device<U>(device_, host, "coefficients of the score");
    };
    std::vector<size_t> begin;
    tables_ = there(joined_tables(plan_, begin));
    families_ = there(device_functions(plan_, tables_.data(), begin));
    family_of_ = there(std::vector<std::int32_t>(plan_.family_of.begin(), plan_.family_of.end()));
    first_row_there_ = there(first_row_), dense_of_there_ = there(dense_of_);
    shape_.families = families_.data(), shape_.family_of = family_of_.data();
    shape_.first_row = first_row_there_.data(), shape_.dense_of = dense_of_there_.data();
    std::vector<T> single, dense;
    for (const auto& time : times) {
        single.insert(single.end(), time.single.begin(), time.single.end());
        dense.insert(dense.end(), time.dense.begin(), time.dense.end());
    }
    const std::vector<unsigned char> rows = packed_rows(times);
    row_bytes_ = times.empty() ? 0 : rows.size() / times.size();
    single_ = there(single), dense_ = there(dense), rows_ = there(rows);
}

template <class T> template <int W> std::vector<unsigned char>
DeviceScore<T>::pack_rows(const std::vector<kernels::ScoreCoefficients<T>>& times) const {
    std::vector<cuda::ScoreRow<T, W>> rows;
    const ScoreLayout& layout = plan_.layout;
    for (const auto& time : times)
        for (int a0 = 0; a0 < shape_.coupled; a0 += W)
            for (const auto& neighbour : layout.neighbours) // by site
                for (int b = 0; b < neighbour.degree; ++b) {
                    cuda::ScoreRow<T, W>& row = rows.emplace_back();
                    row.offset = static_cast<std::uint32_t>(
                        static_cast<size_t>(b * layout.sites + neighbour.j) * shape_.chunk * sizeof(T));
                    for (int w = 0; w < std::min(W, neighbour.degree - a0); ++w)
                        row.c[w] = time.sparse[neighbour.offset +
                                               static_cast<size_t>((a0 + w) * neighbour.degree + b)];
                }
    std::vector<unsigned char> bytes(rows.size() * sizeof(cuda::ScoreRow<T, W>));
    if (!bytes.empty()) std::memcpy(bytes.data(), rows.data(), bytes.size());
    return bytes;
}

template <class T> std::vector<unsigned char>
DeviceScore<T>::packed_rows(const std::vector<kernels::ScoreCoefficients<T>>& times) const {
    return shape_.width == 4   ? pack_rows<4>(times)
           : shape_.width == 3 ? pack_rows<3>(times)
           : shape_.width == 2 ? pack_rows<2>(times)
                               : pack_rows<1>(times);
}

template <class T>
void DeviceScore<T>::gradient(size_t time, const T* x, size_t rows, const cuda::ScoreUpdate<T>& update) {
    const DeviceStream stream = device_.compute_stream();
    const ScoreLayout& layout = plan_.layout;
    const size_t sites = static_cast<size_t>(layout.sites);
    const cuda::ScoreTime<T> at{single_.data() + time * sites * static_cast<size_t>(layout.degree),
                                rows_.data() + time * row_bytes_};
    cuda::score_functions(stream, shape_, at, values_, x, rows, update.laplacian != nullptr);
    for (size_t k = 0; k < layout.dense.size(); ++k) { // sorted by a
        const auto& [a, b] = layout.dense[k];
        const bool add = k > 0 && layout.dense[k - 1].a == a;
        const size_t to = static_cast<size_t>(dense_of_[static_cast<size_t>(a - 1)]);
        cuda::dense_product(device_.libraries(), layout.sites, shape_.chunk,
                            dense_.data() + (time * layout.dense.size() + k) * sites * sites,
                            values_.phi + static_cast<size_t>(b - 1) * numbers_, add,
                            values_.dense + to * numbers_);
    }
    cuda::score_sites(stream, shape_, at, values_, x, rows, update);
}

template class DeviceScore<float>;
template class DeviceScore<double>;

} // namespace dynkin
