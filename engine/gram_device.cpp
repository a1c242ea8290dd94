// gram_device.cpp - the lists that the device assembles Gram matrices from.
#include "gram_device.h"
#include "../kernels/device_times.h"
#include <algorithm>
#include <cmath>

namespace dynkin {

using std::size_t;

/// Parts in the order of ScoreSystem::gram: by site.
struct DeviceScoreSystem::Lists {
    struct Part {
        int row, col;
        cuda::GramPart part;
    };
    std::vector<Part> parts;
    std::vector<cuda::GramPair> pairs;
    std::vector<int> slots;
    std::map<const int*, int> slot_at;       ///< where the plan's lists stand in `slots`
    std::vector<double> gradients, products; ///< of all families, one after another
    std::vector<size_t> first_gradient, first_product;

    int place(const int* list, int count) {
        const auto [entry, fresh] = slot_at.try_emplace(list, static_cast<int>(slots.size()));
        if (fresh) slots.insert(slots.end(), list, list + count);
        return entry->second;
    }
};

namespace {

template <class T> DeviceArray<T> upload(DeviceState& device, const std::vector<T>& list) {
    return to_device(device, std::span<const T>(list), "the lists of the Gram matrix");
}

} // namespace

DeviceScoreSystem::DeviceScoreSystem(DeviceState& device, const ScoreSystem& system)
    : device_(device), system_(system), degrees_(system.plan_.top_degree() + 1) {
    Lists lists;
    for (const ProductTables& table : system.tables_) {
        lists.first_gradient.push_back(lists.gradients.size());
        lists.first_product.push_back(lists.products.size());
        lists.gradients.insert(lists.gradients.end(), table.g.begin(), table.g.end());
        lists.products.insert(lists.products.end(), table.a.begin(), table.a.end());
    }
    for (int site = 0; site < system.set_.sites; ++site) list_site(site, lists);
    std::stable_sort(lists.parts.begin(), lists.parts.end(), [](const auto& x, const auto& y) {
        return x.row != y.row ? x.row < y.row : x.col < y.col;
    });
    std::vector<cuda::GramEntry> entries;
    std::vector<cuda::GramPart> parts;
    for (const auto& [row, col, part] : lists.parts) {
        if (entries.empty() || entries.back().row != row || entries.back().col != col)
            entries.push_back({row, col, static_cast<int>(parts.size()), 0});
        parts.push_back(part), ++entries.back().count;
    }
    entries_ = upload(device, entries), parts_ = upload(device, parts), pairs_ = upload(device, lists.pairs);
    slots_ = upload(device, lists.slots);
    gradients_ = upload(device, lists.gradients), products_ = upload(device, lists.products);
}

void DeviceScoreSystem::list_site(int i, Lists& lists) const {
    const auto& features = system_.plan_.features(i);
    const auto& active = system_.active_[static_cast<size_t>(i)];
    const auto family = static_cast<size_t>(family_of(i));
    const ProductTables& table = system_.tables_[family];
    for (size_t u = 0; u < active.size(); ++u)
        for (size_t v = 0; v <= u; ++v) {
            const auto &x = active[u], &y = active[v];
            const Feature &fp = features[static_cast<size_t>(x.feature)],
                          &fq = features[static_cast<size_t>(y.feature)];
            if (system_.set_.even && (x.a + fp.b + y.a + fq.b) % 2) continue;
            cuda::GramPart part = fp.j >= 0 && fp.j == fq.j ? pair_part(i, fp.j, fp.b, fq.b, lists)
                                                            : triple_part(i, x.feature, y.feature, lists);
            part.gradient = static_cast<int>(lists.first_gradient[family] +
                                             static_cast<size_t>(table.gradients(x.a, y.a) - table.g.data()));
            part.decay = decay_of(i, 0);
            lists.parts.push_back({std::max(x.term, y.term), std::min(x.term, y.term), part});
        }
}

cuda::GramPart DeviceScoreSystem::triple_part(int i, int p, int q, Lists& lists) const {
    const auto at = system_.plan_.triple_place(i, p, q);
    const auto decay = [&](int feature) { // 0: the number 1
        const Feature& f = system_.plan_.features(i)[static_cast<size_t>(feature)];
        return f.j < 0 ? 0 : decay_of(f.j, f.b);
    };
    return {at.base, at.stride, lists.place(at.slot, degrees_), 0, 0, decay(p), decay(q), -1};
}

cuda::GramPart DeviceScoreSystem::pair_part(int i, int j, int b, int d, Lists& lists) const {
    const auto moments = [&](int parity) {
        const auto at = system_.plan_.pair_place(i, j, parity);
        return cuda::GramPairMoments{at.base, at.stride_r, at.stride_s,
                                     at.position ? lists.place(at.position, degrees_) : -1};
    };
    const auto family = static_cast<size_t>(family_of(j));
    const ProductTables& table = system_.tables_[family];
    lists.pairs.push_back({moments(0), moments(1),
                           static_cast<int>(lists.first_product[family] +
                                            static_cast<size_t>(table.products(b, d) - table.a.data())),
                           decay_of(j, 0)});
    cuda::GramPart part{};
    part.pair = static_cast<int>(lists.pairs.size()) - 1;
    return part;
}

void DeviceScoreSystem::reserve(size_t times) {
    if (decays_.size() < times * decay_count())
        decays_ = {device_, times * decay_count(), "the decays of the time nodes"};
}

void DeviceScoreSystem::gram(const DeviceArray<double>& moments, std::span<const double> times, double* a) {
    std::vector<double> decays;
    for (const double t : times) {
        decays.push_back(1);
        for (const Family& family : system_.reference_.families)
            for (const double lambda : family.lambda) decays.push_back(std::exp(-lambda * t));
    }
    reserve(times.size());
    decays_.upload(device_.compute_stream(), decays);
    const cuda::GramTables tables{entries_.data(),  entries_.size(), parts_.data(),
                                  pairs_.data(),    slots_.data(),   gradients_.data(),
                                  products_.data(), degrees_,        system_.set_.even};
    timed(device_, "gram", [&] {
        cuda::fill_zero(device_.compute_stream(), a, times.size() * size() * size() * sizeof(double));
        cuda::gram_matrices(device_.compute_stream(), tables, moments.data(), decays_.data(), decay_count(),
                            times.size(), size(), a);
    });
}

} // namespace dynkin
