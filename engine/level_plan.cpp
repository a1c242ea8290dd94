#include "level_plan.h"
#include <algorithm>
#include <array>
#include <cmath>
#include <fmt/format.h>
#include <map>
#include <numeric>
#include <set>

namespace dynkin {

using std::size_t;

namespace {

using Point = std::array<int, 3>;

/// A symmetry of the lattice: image[axis] = sign * point[permutation[axis]].
struct Symmetry3 {
    std::array<int, 3> permutation, sign;
    Point operator()(const Point& p) const {
        Point q{};
        for (size_t k = 0; k < 3; ++k) q[k] = sign[k] * p[static_cast<size_t>(permutation[k])];
        return q;
    }
    Point inverse(const Point& q) const {
        Point p{};
        for (size_t k = 0; k < 3; ++k) p[static_cast<size_t>(permutation[k])] = sign[k] * q[k];
        return p;
    }
};

/// A number for each value outside: 0 for zero, the same for equal ones.
int wall_label(const Lattice& lattice, size_t axis, int side) {
    std::vector<double> values{0};
    for (size_t k = 0; k < lattice.shape.size(); ++k)
        for (int s : {0, 1}) {
            const double value = lattice.outside_value(k, s);
            auto at = std::find(values.begin(), values.end(), value);
            if (at == values.end()) at = values.insert(at, value);
            if (k == axis && s == side) return static_cast<int>(at - values.begin());
        }
    return 0;
}

/// Sites as points; a fixed boundary has its values at 0 and at side + 1, otherwise the first site is at 0.
class Grid {
  public:
    Grid(const Lattice& lattice, bool reflections) : lattice_(lattice) {
        axes_ = lattice.shape.size();
        for (size_t k = 0; k < axes_; ++k) side_[k] = static_cast<int>(lattice.shape[k]);
        origin_ = lattice.boundary == Boundary::fixed ? 1 : 0;
        for (size_t k = 0; k < axes_; ++k)
            for (int side : {0, 1})
                wall_[2 * k + static_cast<size_t>(side)] = wall_label(lattice, k, side) << 24;
        make_symmetries(reflections);
    }
    bool periodic() const { return lattice_.boundary == Boundary::periodic; }
    size_t axes() const { return axes_; }
    int sites() const { return static_cast<int>(lattice_.sites()); }
    int largest_side() const { return std::max({side_[0], side_[1], side_[2]}); }
    const std::vector<Symmetry3>& symmetries() const { return symmetries_; }

    Point point(int site) const {
        Point p{};
        for (size_t k = axes_; k-- > 0; site /= side_[k]) p[k] = site % side_[k] + origin_;
        return p;
    }
    /// -1: outside (never when periodic).
    int site(const Point& p) const {
        int s = 0;
        for (size_t k = 0; k < axes_; ++k) {
            int x = p[k] - origin_;
            if (periodic())
                x = (x % side_[k] + side_[k]) % side_[k];
            else if (x < 0 || x >= side_[k])
                return -1;
            s = s * side_[k] + x;
        }
        return s;
    }
    /// The shortest way from p to q; of two equally long ones that of positive components.
    Point offset(const Point& p, const Point& q) const {
        Point o{};
        for (size_t k = 0; k < axes_; ++k) o[k] = wrap(q[k] - p[k], k);
        return o;
    }
    int distance2(const Point& p, const Point& q) const {
        const Point o = offset(p, q);
        return o[0] * o[0] + o[1] * o[1] + o[2] * o[2];
    }
    Point wrapped(Point o) const {
        for (size_t k = 0; k < axes_; ++k) o[k] = wrap(o[k], k);
        return o;
    }
    /// Distances to the lower and upper end of each axis as the symmetry sees them, cut at `cut`, and which
    /// value is beyond an end that is nearer; 0 when periodic.
    std::array<int, 6> margins(const Point& p, const Symmetry3& g, int cut) const {
        std::array<int, 6> m{};
        if (periodic()) return m;
        for (size_t k = 0; k < axes_; ++k) {
            const size_t axis = static_cast<size_t>(g.permutation[k]);
            const auto seen = [&](int distance, size_t side) {
                return distance < cut ? distance | wall_[2 * axis + side] : cut;
            };
            const int below = seen(p[axis] - origin_, 0),
                      above = seen(origin_ + side_[axis] - 1 - p[axis], 1);
            m[2 * k] = g.sign[k] > 0 ? below : above, m[2 * k + 1] = g.sign[k] > 0 ? above : below;
        }
        return m;
    }
    /// Sites one step away.
    std::vector<int> nearest(int s) const {
        std::vector<int> out;
        const Point p = point(s);
        for (size_t k = 0; k < axes_; ++k)
            for (int step : {-1, 1}) {
                Point q = p;
                q[k] += step;
                const int other = site(q);
                if (other >= 0 && other != s && std::find(out.begin(), out.end(), other) == out.end())
                    out.push_back(other);
            }
        return out;
    }

  private:
    int wrap(int o, size_t axis) const {
        if (!periodic()) return o;
        const int n = side_[axis];
        o = (o % n + n) % n;
        return 2 * o > n ? o - n : o;
    }
    void make_symmetries(bool reflections) {
        std::array<int, 3> permutation{0, 1, 2};
        do {
            bool fits = true;
            for (size_t k = 0; k < 3; ++k) {
                const size_t from = static_cast<size_t>(permutation[k]);
                fits = fits && side_[from] == side_[k] && (k < axes_) == (from < axes_);
            }
            for (int signs = 0; fits && signs < 1 << axes_; ++signs) {
                Symmetry3 g{permutation, {1, 1, 1}};
                for (size_t k = 0; k < axes_; ++k) g.sign[k] = signs >> k & 1 ? -1 : 1;
                symmetries_.push_back(g);
                if (!reflections) return;
            }
        } while (std::next_permutation(permutation.begin(), permutation.end()));
    }

    const Lattice& lattice_;
    size_t axes_ = 1;
    std::array<int, 3> side_{1, 1, 1};
    std::array<int, 6> wall_{}; ///< by value outside, above the bits of distances
    int origin_ = 0;
    std::vector<Symmetry3> symmetries_;
};

int power_of_two_below(int n) { // the largest one < n
    int p = 1;
    while (2 * p < n) p *= 2;
    return p;
}

/// One axis: x_i given both ends of an interval depends on nothing else, wherever the interval lies.
class ChainLevels {
  public:
    ChainLevels(const Lattice& lattice, const LatticePlanOptions& options)
        : boundary_(lattice.boundary), n_(static_cast<int>(lattice.sites())),
          homogeneous_(options.homogeneous), reflections_(options.reflections), halvings_(options.halvings) {
        const auto longest = std::max_element(lattice.shape.begin(), lattice.shape.end());
        const auto axis = static_cast<size_t>(longest - lattice.shape.begin());
        labels_ = {wall_label(lattice, axis, 0), wall_label(lattice, axis, 1)};
    }

    LevelPlans make() {
        std::map<int, std::vector<int>, std::greater<>> intervals; // length -> left ends
        if (halvings_ >= 0) {
            const int spacing = 1 << std::min(halvings_, 24),
                      end = boundary_ == Boundary::periodic ? n_ : n_ - 1 + 2 * origin();
            for (int at = 0; at < end; at += spacing) intervals[std::min(spacing, end - at)].push_back(at);
            for (int at = 0; at < end; at += spacing)
                if (column(at) >= 0) plans_.first.push_back(column(at));
            if (boundary_ == Boundary::free) plans_.first.push_back(n_ - 1);
        } else if (boundary_ == Boundary::fixed)
            intervals[n_ + 1].push_back(0); // positions 1 .. n, fixed values at 0 and n + 1
        else {
            add_first(), ++stage_;
            if (boundary_ == Boundary::periodic)
                intervals[n_].push_back(0);
            else {
                if (n_ > 1) add_last(), ++stage_;
                intervals[n_ - 1].push_back(0);
            }
        }
        while (!intervals.empty() && intervals.begin()->first > 1) {
            const auto [length, left] = *intervals.begin();
            intervals.erase(intervals.begin());
            const int a = power_of_two_below(length), b = length - a;
            split(left, a, b), ++stage_;
            for (int at : left) intervals[a].push_back(at), intervals[b].push_back(at + a);
        }
        return std::move(plans_);
    }

  private:
    int origin() const { return boundary_ == Boundary::fixed; }
    /// 0, or the label of the value that is fixed to other than zero at a position: what a zero in its place
    /// stands for, in models of intervals that it ends.
    int wall(int position) const {
        if (boundary_ != Boundary::fixed) return 0;
        return position == 0 ? labels_[0] : position == n_ + 1 ? labels_[1] : 0;
    }
    /// The column at a position: -1 for a value outside, -2 where there is nothing.
    int column(int position) const {
        const int x = position - origin();
        if (boundary_ == Boundary::periodic) return (x % n_ + n_) % n_;
        if (x >= 0 && x < n_) return x;
        return boundary_ == Boundary::fixed && (x == -1 || x == n_) ? -1 : -2;
    }
    LevelPlan& add(std::string name, int slots) {
        LevelPlan& plan = plans_.levels.emplace_back();
        plan.name = std::move(name), plan.stage = stage_, plan.slots = slots;
        return plan;
    }
    void add_first() {
        LevelPlan& plan = add("first", 0);
        plan.targets = {0}, plan.kinds = {DescriptorKind::none};
        plan.training = {0};
        if (!homogeneous_) return;
        if (boundary_ == Boundary::periodic)
            for (int i = 1; i < n_; ++i) plan.training.push_back(i);
        else if (reflections_)
            plan.training.push_back(n_ - 1);
    }
    void add_last() {
        LevelPlan& plan = add("last", 1);
        plan.targets = {n_ - 1}, plan.neighbours = {0}, plan.shell = {0};
        plan.kinds = {DescriptorKind::predictor};
        plan.training = {n_ - 1, 0};
        if (homogeneous_ && reflections_) plan.training.insert(plan.training.end(), {0, n_ - 1});
        plan.spacing = n_ - 1;
    }
    void split(const std::vector<int>& left, int a, int b) {
        std::map<std::array<int, 2>, size_t> plans; // by the values at the ends
        for (int at : left) {
            const auto [found, is_new] =
                plans.try_emplace({wall(at), wall(at + a + b)}, plans_.levels.size());
            if (is_new || !homogeneous_) {
                found->second = plans_.levels.size();
                LevelPlan& plan = add(a == b ? fmt::format("{}", a) : fmt::format("{}+{}", a, b), 2);
                plan.shell = a == b ? std::vector<int>{0, 0} : std::vector<int>{0, 1};
                plan.kinds = {a == b ? DescriptorKind::interval : DescriptorKind::ends};
                plan.spacing = std::min(a, b);
            }
            LevelPlan& plan = plans_.levels[found->second];
            const std::array<int, 3> row{column(at + a), column(at), column(at + a + b)};
            plan.targets.push_back(row[0]);
            plan.neighbours.insert(plan.neighbours.end(), {row[1], row[2]});
            if (!homogeneous_) plan.training.assign(row.begin(), row.end());
        }
        for (const auto& [walls, k] : plans)
            if (homogeneous_) add_training(plans_.levels[k], a, b, walls);
    }
    /// Every place with such ends, whose values outside are the same.
    void add_training(LevelPlan& plan, int a, int b, const std::array<int, 2>& walls) {
        const int last = boundary_ == Boundary::periodic ? n_ : n_ + 2 * origin();
        for (int i = 0; i < last; ++i)
            for (int sign : {1, -1}) {
                if (sign < 0 && ((a == b && walls[0] == walls[1]) || !reflections_)) continue;
                const std::array<int, 3> row{column(i), column(i - sign * a), column(i + sign * b)};
                if (row[0] >= 0 && row[1] >= -1 && row[2] >= -1 &&
                    walls == std::array<int, 2>{wall(i - sign * a), wall(i + sign * b)})
                    plan.training.insert(plan.training.end(), row.begin(), row.end());
            }
    }

    Boundary boundary_;
    int n_;
    bool homogeneous_, reflections_;
    int halvings_, stage_ = 0;
    std::array<int, 2> labels_{}; ///< of the values outside
    LevelPlans plans_;
};

/// Two and three axes.
class GridLevels {
  public:
    GridLevels(const Lattice& lattice, const LatticePlanOptions& options)
        : grid_(lattice, options.reflections), homogeneous_(options.homogeneous), reach_(options.reach),
          known_(static_cast<size_t>(grid_.sites()), 0) {
        if (options.halvings >= 0)
            top_ = 1 << std::min(options.halvings, 24);
        else
            while (top_ < reach_ && top_ < grid_.largest_side()) top_ *= 2;
        if (options.halvings < 0) return;
        plans_.first = multiples(top_, 0);
        for (int i : plans_.first) known_[static_cast<size_t>(i)] = 1;
    }

    LevelPlans make() {
        const int top = top_;
        add_set(fmt::format("A{}", top), multiples(top, 0), top, 0);
        for (int s = top; s >= 2; s /= 2) {
            const int axes = static_cast<int>(grid_.axes()), h = s / 2;
            for (int count = axes; count >= 1; --count)
                if (h > 1 || count % 2 == 0) { // at last all odd sites together
                    const bool centre = count == axes;
                    add_set(fmt::format("{}{}",
                                        centre       ? "C"
                                        : count == 1 ? "E"
                                                     : "F",
                                        s),
                            multiples(s, count), count > 1 ? s * s : 2 * h * h, count);
                }
            if (h == 1) {
                std::vector<int> odd;
                for (int i = 0; i < grid_.sites(); ++i)
                    if (!known_[static_cast<size_t>(i)]) odd.push_back(i);
                add_set("E2", odd, 1, 1);
            }
        }
        return std::move(plans_);
    }

  private:
    /// Sites whose coordinates are multiples of s but for `count` of them, which lie half way.
    std::vector<int> multiples(int s, int count) const {
        std::vector<int> out;
        for (int i = 0; i < grid_.sites(); ++i) {
            const Point p = grid_.point(i);
            int halves = 0;
            bool fits = !known_[static_cast<size_t>(i)];
            for (size_t k = 0; k < grid_.axes(); ++k) {
                const int rest = p[k] % s;
                halves += s > 1 && rest == s / 2 && rest != 0;
                fits = fits && (rest == 0 || rest == s / 2);
            }
            if (fits && halves == count) out.push_back(i);
        }
        return out;
    }

    /// Colours such that no two sites within the distance share one: the natural one (checkerboard, or by
    /// axis) where it does, otherwise greedily.
    std::vector<std::vector<int>> colour(const std::vector<int>& sites, int s, int conflict2,
                                         int count) const {
        std::vector<Point> points;
        for (int i : sites) points.push_back(grid_.point(i));
        std::vector<int> colours(sites.size());
        for (size_t k = 0; k < sites.size(); ++k) {
            int sum = 0, axis = 0;
            for (size_t a = 0; a < grid_.axes(); ++a) {
                sum += points[k][a] / s;
                if (count > 0 && count < static_cast<int>(grid_.axes()) && points[k][a] % s == 0)
                    axis = static_cast<int>(a);
            }
            colours[k] = conflict2 == 1                                          ? 0
                         : count == 0 || count == static_cast<int>(grid_.axes()) ? sum % 2
                                                                                 : axis;
        }
        const auto clash = [&](size_t k, size_t l) {
            return colours[k] == colours[l] && grid_.distance2(points[k], points[l]) <= conflict2;
        };
        bool good = true;
        for (size_t k = 0; k < sites.size() && good; ++k)
            for (size_t l = 0; l < k && good; ++l) good = !clash(k, l);
        if (!good)
            for (size_t k = 0; k < sites.size(); ++k) {
                std::set<int> taken;
                for (size_t l = 0; l < k; ++l)
                    if (grid_.distance2(points[k], points[l]) <= conflict2) taken.insert(colours[l]);
                colours[k] = 0;
                while (taken.contains(colours[k])) ++colours[k];
            }
        std::vector<std::vector<int>> out(
            1 + static_cast<size_t>(*std::max_element(colours.begin(), colours.end())));
        for (size_t k = 0; k < sites.size(); ++k) out[static_cast<size_t>(colours[k])].push_back(sites[k]);
        std::erase_if(out, [](const auto& group) { return group.empty(); });
        return out;
    }

    void add_set(const std::string& name, const std::vector<int>& sites, int conflict, int count) {
        if (sites.empty()) return;
        const int s = count == 0 ? conflict : std::stoi(name.substr(1));
        const auto groups = colour(sites, s, count == 0 ? conflict * conflict : conflict, count);
        for (size_t c = 0; c < groups.size(); ++c) {
            add_stage(groups.size() == 1 ? name : fmt::format("{}{}", name, static_cast<char>('a' + c % 26)),
                      groups[c], s);
            for (int i : groups[c]) known_[static_cast<size_t>(i)] = 1;
            ++stage_;
        }
    }

    /// What a site sees: the known sites around it and how they group.
    struct Environment {
        std::vector<Point> offsets; ///< of the slots
        std::vector<std::vector<Point>>
            groups;  ///< other neighbours of each nearest neighbour, if all are known
        int cut = 1; ///< the boundary matters up to here
        double spacing = 1;
    };

    Environment environment(int site, int s) const {
        Environment e;
        const Point p = grid_.point(site);
        const auto nearest = grid_.nearest(site);
        const auto known = [&](int i) { return known_[static_cast<size_t>(i)] != 0; };
        if (std::all_of(nearest.begin(), nearest.end(), known)) {
            for (int i : nearest) e.offsets.push_back(grid_.offset(p, grid_.point(i)));
            return e;
        }
        bool decimation = std::none_of(nearest.begin(), nearest.end(), known);
        for (int i : nearest)
            for (int j : grid_.nearest(i)) decimation = decimation && (j == site || known(j));
        if (decimation)
            for (int i : nearest) {
                e.groups.emplace_back();
                for (int j : grid_.nearest(i))
                    if (j != site) e.groups.back().push_back(grid_.offset(p, grid_.point(j)));
            }
        std::map<int, std::vector<Point>> shells;
        const double limit = std::max(reach_, 1.5 * s);
        for (int i = 0; i < grid_.sites(); ++i)
            if (known(i)) {
                const Point o = grid_.offset(p, grid_.point(i));
                const int d2 = o[0] * o[0] + o[1] * o[1] + o[2] * o[2];
                if (d2 <= limit * limit) shells[d2].push_back(o);
            }
        int count = 0;
        for (const auto& [d2, points] : shells) {
            if (count++ == 4 || e.offsets.size() + points.size() > 40) break;
            if (e.offsets.empty()) e.spacing = std::sqrt(d2);
            e.offsets.insert(e.offsets.end(), points.begin(), points.end());
            e.cut = static_cast<int>(std::ceil(std::sqrt(d2)));
        }
        if (e.offsets.empty()) e.cut = top_;
        return e;
    }

    using Key = std::vector<int>;
    /// The environment as a symmetry sees it, in a canonical order.
    Key key(const Environment& e, const Point& p, const Symmetry3& g) const {
        Key key{e.cut};
        const auto m = grid_.margins(p, g, e.cut);
        key.insert(key.end(), m.begin(), m.end());
        for (const Point& o : images(e.offsets, g)) key.insert(key.end(), o.begin(), o.end());
        std::vector<Key> groups;
        for (const auto& group : e.groups) {
            groups.emplace_back();
            for (const Point& o : images(group, g))
                groups.back().insert(groups.back().end(), o.begin(), o.end());
        }
        std::sort(groups.begin(), groups.end());
        for (const Key& group : groups)
            key.push_back(1 << 20), key.insert(key.end(), group.begin(), group.end());
        return key;
    }
    std::vector<Point> images(const std::vector<Point>& offsets, const Symmetry3& g) const {
        std::vector<Point> out;
        for (const Point& o : offsets) out.push_back(grid_.wrapped(g(o)));
        std::sort(out.begin(), out.end(), [](const Point& a, const Point& b) {
            const auto norm = [](const Point& o) { return o[0] * o[0] + o[1] * o[1] + o[2] * o[2]; };
            return std::pair(norm(a), a) < std::pair(norm(b), b);
        });
        return out;
    }

    void add_stage(const std::string& name, const std::vector<int>& sites, int s) {
        std::map<Key, size_t> classes;
        const size_t first = plans_.levels.size();
        for (int i : sites) {
            const Environment e = environment(i, s);
            const Point p = grid_.point(i);
            const Symmetry3* best = nullptr;
            Key smallest;
            for (const Symmetry3& g : grid_.symmetries()) {
                Key k = key(e, p, g);
                if (!best || k < smallest) best = &g, smallest = std::move(k);
            }
            if (!homogeneous_) smallest.push_back(i);
            const auto [at, added] = classes.emplace(smallest, plans_.levels.size());
            const std::vector<Point> slots = images(e.offsets, *best);
            if (added) add_plan(name, e, slots, *best, i);
            LevelPlan& plan = plans_.levels[at->second];
            plan.targets.push_back(i);
            for (const Point& o : slots) plan.neighbours.push_back(neighbour(p, o, *best));
        }
        if (plans_.levels.size() > first + 1)
            for (size_t k = first; k < plans_.levels.size(); ++k)
                plans_.levels[k].name += fmt::format(".{}", k - first + 1);
    }

    int neighbour(const Point& p, const Point& o, const Symmetry3& g) const {
        const Point back = g.inverse(o);
        return grid_.site({p[0] + back[0], p[1] + back[1], p[2] + back[2]});
    }

    void add_plan(const std::string& name, const Environment& e, std::vector<Point> slots, const Symmetry3& g,
                  int site) {
        LevelPlan plan;
        plan.name = name, plan.stage = stage_, plan.spacing = e.spacing;
        plan.slots = static_cast<int>(slots.size());
        plan.kinds = slots.empty() ? std::vector{DescriptorKind::none}
                     : e.cut == 1 && e.groups.empty()
                         ? std::vector{DescriptorKind::predictor}
                         : std::vector{DescriptorKind::predictor, DescriptorKind::squares};
        for (const auto& group : e.groups) {
            plan.groups.emplace_back();
            for (const Point& o : images(group, g)) {
                const auto at = std::find(slots.begin(), slots.end(), o);
                if (at == slots.end()) {
                    plan.groups.clear(); // a neighbour beyond the shells
                    break;
                }
                plan.groups.back().push_back(static_cast<int>(at - slots.begin()));
            }
            if (plan.groups.empty()) break;
        }
        if (!plan.groups.empty()) plan.kinds.push_back(DescriptorKind::decimation);
        plan.shell = shells(slots, e.cut, site, g);
        add_training(plan, slots, g, site, e.cut);
        plans_.levels.push_back(std::move(plan));
    }

    /// Slots that a symmetry of the environment maps onto one another share a number.
    std::vector<int> shells(const std::vector<Point>& slots, int cut, int site, const Symmetry3& g) const {
        std::vector<int> shell(slots.size());
        std::iota(shell.begin(), shell.end(), 0);
        const Point p = grid_.point(site);
        for (const Symmetry3& h : grid_.symmetries()) {
            if (grid_.margins(p, h, cut) != grid_.margins(p, g, cut)) continue;
            // h g^-1 acts on the canonical slots
            std::vector<size_t> image;
            for (const Point& o : slots) {
                const auto at = std::find(slots.begin(), slots.end(), grid_.wrapped(h(g.inverse(o))));
                if (at == slots.end()) break;
                image.push_back(static_cast<size_t>(at - slots.begin()));
            }
            if (image.size() != slots.size()) continue;
            for (size_t k = 0; k < slots.size(); ++k) {
                const int low = std::min(shell[k], shell[image[k]]),
                          high = std::max(shell[k], shell[image[k]]);
                for (int& value : shell)
                    if (value == high) value = low;
            }
        }
        std::map<int, int> number;
        for (int& value : shell) value = number.emplace(value, static_cast<int>(number.size())).first->second;
        return shell;
    }

    void add_training(LevelPlan& plan, const std::vector<Point>& slots, const Symmetry3& own, int site,
                      int cut) const {
        const auto margins = grid_.margins(grid_.point(site), own, cut);
        for (int i = homogeneous_ ? 0 : site; i < (homogeneous_ ? grid_.sites() : site + 1); ++i) {
            std::set<std::vector<int>> seen;
            const Point p = grid_.point(i);
            for (const Symmetry3& g : grid_.symmetries()) {
                if (!homogeneous_ && &g != &own) continue;
                if (grid_.margins(p, g, cut) != margins) continue;
                std::vector<int> row{i};
                for (const Point& o : slots) row.push_back(neighbour(p, o, g));
                std::vector<int> sorted = row;
                std::sort(sorted.begin(), sorted.end());
                if (sorted.front() < 0 || !seen.insert(sorted).second) continue;
                plan.training.insert(plan.training.end(), row.begin(), row.end());
            }
        }
    }

    Grid grid_;
    bool homogeneous_;
    double reach_;
    int top_ = 2, stage_ = 0;
    std::vector<char> known_;
    LevelPlans plans_;
};

} // namespace

LevelPlans lattice_levels(const Lattice& lattice, const LatticePlanOptions& options) {
    size_t longest = 0;
    for (size_t side : lattice.shape) longest = std::max(longest, side);
    if (longest == lattice.sites()) return ChainLevels(lattice, options).make();
    return GridLevels(lattice, options).make();
}

namespace {

/// Coordinates that depend little on one another: the one that depends most on all, then always the one whose
/// largest dependence on those chosen is smallest.
std::vector<int> spread_coordinates(const Array<double>& dependence, size_t count) {
    const size_t d = dependence.rows();
    std::vector<double> total(d, 0), nearest(d, 0);
    for (size_t i = 0; i < d; ++i)
        for (size_t j = 0; j < d; ++j) total[i] += i == j ? 0 : dependence(i, j);
    std::vector<char> taken(d, 0);
    std::vector<int> out;
    size_t next = static_cast<size_t>(std::max_element(total.begin(), total.end()) - total.begin());
    while (true) {
        taken[next] = 1, out.push_back(static_cast<int>(next));
        if (out.size() >= count) break;
        for (size_t i = 0; i < d; ++i) nearest[i] = std::max(nearest[i], dependence(i, next));
        next = d;
        for (size_t i = 0; i < d; ++i)
            if (!taken[i] && (next == d || nearest[i] < nearest[next])) next = i;
    }
    std::sort(out.begin(), out.end());
    return out;
}

} // namespace

LevelPlans dependence_levels(const Array<double>& dependence, int most) {
    const size_t d = dependence.rows();
    LevelPlans plans;
    std::vector<char> known(d, 0);
    std::vector<int> first = spread_coordinates(dependence, std::clamp<size_t>(d / 4, 1, 48));
    for (int j : first) known[static_cast<size_t>(j)] = 1;
    if (first.size() == 1) { // alone it is a level like the others, with an exact density
        LevelPlan& plan = plans.levels.emplace_back();
        plan.name = fmt::format("x{}", first[0]), plan.targets = plan.training = first;
        plan.kinds = {DescriptorKind::none};
    } else
        plans.first = first;
    for (size_t count = first.size(); count < d; ++count) {
        size_t next = d;
        double largest = -1;
        for (size_t i = 0; i < d; ++i)
            for (size_t j = 0; j < d && !known[i]; ++j)
                if (known[j] && dependence(i, j) > largest) largest = dependence(i, j), next = i;
        std::vector<int> order;
        for (size_t j = 0; j < d; ++j)
            if (known[j]) order.push_back(static_cast<int>(j));
        std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
            return dependence(next, static_cast<size_t>(a)) > dependence(next, static_cast<size_t>(b));
        });
        order.resize(std::min(order.size(), static_cast<size_t>(most)));
        LevelPlan& plan = plans.levels.emplace_back();
        plan.name = fmt::format("x{}", next), plan.stage = static_cast<int>(plans.levels.size()) - 1;
        plan.targets = {static_cast<int>(next)}, plan.neighbours = order,
        plan.slots = static_cast<int>(order.size());
        plan.training = {static_cast<int>(next)};
        plan.training.insert(plan.training.end(), order.begin(), order.end());
        plan.shell.resize(order.size());
        std::iota(plan.shell.begin(), plan.shell.end(), 0);
        plan.kinds = {DescriptorKind::predictor, DescriptorKind::squares};
        known[next] = 1;
    }
    return plans;
}

} // namespace dynkin
