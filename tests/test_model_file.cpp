// test_model_file.cpp - models survive the disk to the last byte, and no tensor can be changed into nonsense
// unnoticed.
#include "cases.h"
#include "engine/model_file.h"
#include "engine/sampler.h"
#include "engine/tensor_file.h"
#include <fstream>
#include <sstream>

namespace dynkin {
namespace {

using std::size_t;

/// Everything that a model can have: two kinds of families, dropped columns, a lattice.
Model rich_model(ReferenceKind kind) {
    Model model = cases::gaussian_model(cases::gaussian(3), kind, 6);
    model.view.columns = 4, model.view.kept = {0, 1, 3}, model.view.constant = {0, 0, 2.5, 0};
    model.view.seed = 0xfedcba9876543210u;
    model.standardization = {{1, 2, 3}, {0.5, 1, 2}};
    model.sample_shape = {2, 2};
    model.lattice = Lattice{{2, 2}, Boundary::periodic};
    model.default_steps = 48, model.training_rows = 12345;
    model.configuration = R"({"degree":2})";
    return model;
}

class ModelFile : public cases::Folder {
  protected:
    std::filesystem::path written(const Model& model, const char* name = "m.dynkin") const {
        write_model(path(name), model);
        return path(name);
    }
    std::string bytes(const std::filesystem::path& file) const {
        std::ostringstream text;
        text << std::ifstream(file, std::ios::binary).rdbuf();
        return text.str();
    }
    /// Expects that the model is refused after `change` of its tensors.
    template <class F>
    void expect_refused(const TensorFile& sound, const std::string& what, const F& change) const {
        TensorFile file = sound;
        change(file);
        write_tensor_file(path("changed"), file);
        try {
            read_model(path("changed"));
            ADD_FAILURE() << "accepted: " << what;
        } catch (const Error& error) {
            EXPECT_EQ(static_cast<int>(error.kind()), static_cast<int>(ErrorKind::input))
                << what << ": " << error.what();
            EXPECT_NE(std::string(error.what()).find(path("changed").string()), std::string::npos)
                << what << ": " << error.what();
        }
    }
    TensorFile tensors(ReferenceKind kind) const {
        return read_tensor_file(written(rich_model(kind)), "dynkin-model");
    }
};

void expect_equal(const Family& a, const Family& b) {
    EXPECT_EQ(a.kind, b.kind);
    EXPECT_EQ(a.lo, b.lo);
    EXPECT_EQ(a.hi, b.hi);
    EXPECT_EQ(a.potential, b.potential);
    EXPECT_EQ(a.log_normaliser, b.log_normaliser);
    EXPECT_EQ(a.lambda, b.lambda);
    EXPECT_EQ(a.recurrence_a, b.recurrence_a);
    EXPECT_EQ(a.recurrence_b, b.recurrence_b);
    EXPECT_EQ(a.expansion.rows(), b.expansion.rows());
    EXPECT_TRUE(cases::same_bytes(a.expansion, b.expansion));
}

void expect_equal(const Block& a, const Block& b) {
    EXPECT_EQ(a.coordinates, b.coordinates);
    EXPECT_EQ(a.reference.family_of, b.reference.family_of);
    ASSERT_EQ(a.reference.families.size(), b.reference.families.size());
    for (size_t k = 0; k < a.reference.families.size(); ++k)
        expect_equal(a.reference.families[k], b.reference.families[k]);
    EXPECT_EQ(a.basis.sites, b.basis.sites);
    EXPECT_EQ(a.basis.degree, b.basis.degree);
    EXPECT_EQ(a.basis.total_degree, b.basis.total_degree);
    EXPECT_EQ(a.basis.even, b.basis.even);
    ASSERT_EQ(a.basis.terms.size(), b.basis.terms.size());
    for (size_t k = 0; k < a.basis.terms.size(); ++k) {
        const Term &s = a.basis.terms[k], &t = b.basis.terms[k];
        EXPECT_TRUE(s.i == t.i && s.a == t.a && s.j == t.j && s.b == t.b) << k;
    }
    EXPECT_EQ(a.t_min, b.t_min);
    EXPECT_EQ(a.t_end, b.t_end);
    EXPECT_EQ(a.t0, b.t0);
    EXPECT_EQ(a.node_time, b.node_time);
    EXPECT_EQ(a.coefficients.rows(), b.coefficients.rows());
    EXPECT_TRUE(cases::same_bytes(a.coefficients, b.coefficients));
    EXPECT_EQ(a.lower, b.lower);
    EXPECT_EQ(a.upper, b.upper);
}

TEST_F(ModelFile, EverythingComesBack) {
    for (ReferenceKind kind : {ReferenceKind::hermite, ReferenceKind::fitted}) {
        const Model model = rich_model(kind), back = read_model(written(model));
        EXPECT_EQ(back.view.columns, model.view.columns);
        EXPECT_EQ(back.view.kept, model.view.kept);
        EXPECT_EQ(back.view.constant, model.view.constant);
        EXPECT_EQ(back.view.levels, model.view.levels);
        EXPECT_EQ(back.view.seed, model.view.seed);
        EXPECT_EQ(back.standardization.mean, model.standardization.mean);
        EXPECT_EQ(back.standardization.scale, model.standardization.scale);
        EXPECT_EQ(back.sample_shape, model.sample_shape);
        ASSERT_TRUE(back.lattice);
        EXPECT_EQ(back.lattice->shape, model.lattice->shape);
        EXPECT_EQ(back.lattice->boundary, model.lattice->boundary);
        EXPECT_EQ(back.default_steps, 48);
        EXPECT_EQ(back.training_rows, 12345);
        EXPECT_EQ(back.configuration, model.configuration);
        ASSERT_EQ(back.blocks.size(), 1u);
        expect_equal(back.blocks[0], model.blocks[0]);
    }
}

TEST_F(ModelFile, BoundariesEvenBasesAndTotalDegreesComeBack) {
    for (Boundary boundary : {Boundary::free, Boundary::zero, Boundary::periodic}) {
        Model model = cases::empty_model(cases::fitted_reference(3, true),
                                         make_index_set(3, 4, cases::chain_pairs(3, 4), 4, true), 3);
        model.lattice = Lattice{{3}, boundary};
        const Model back = read_model(written(model));
        EXPECT_EQ(back.lattice->boundary, boundary);
        if (boundary == Boundary::fixed) {
            model.lattice->outside = {1, -0.5};
            EXPECT_EQ(read_model(written(model)).lattice, model.lattice);
            EXPECT_FALSE(*back.lattice == *model.lattice);
        }
        expect_equal(back.blocks[0], model.blocks[0]);
    }
    Model plain = cases::gaussian_model(cases::gaussian(1), ReferenceKind::hermite, 1);
    plain.sample_shape = {}; // a file of shape (N)
    EXPECT_FALSE(read_model(written(plain)).lattice);
    EXPECT_TRUE(read_model(written(plain)).sample_shape.empty());
}

TEST_F(ModelFile, ProcessesComeBackAndNewOnesRaiseTheVersion) {
    Model model = rich_model(ReferenceKind::hermite);
    const auto version = [&](const Process& process) {
        model.process = process;
        const auto file = written(model);
        EXPECT_EQ(std::string(process_name(read_model(file).process)), process_name(process));
        return read_tensor_file(file, "dynkin-model", 2).version;
    };
    EXPECT_EQ(version(OuProcess{}), 1);
    EXPECT_EQ(version(VeProcess{}), 2);
    EXPECT_EQ(version(BoxProcess{{0, 1, 2}, {1, 2, 4}, 0}), 2);
    EXPECT_EQ(std::get<BoxProcess>(read_model(path("m.dynkin")).process).upper,
              (std::vector<double>{1, 2, 4}));
    model.process = TorusProcess{{0, 0, 0}, {1, 2, 4}}; // whose coordinates have other functions
    cases::expect_error(
        ErrorKind::input, [&] { read_model(written(model)); }, "families of the block");
    Array<double> drift(3, 3), noise(3, 2);
    drift(0, 1) = 0.25, noise(2, 1) = 3;
    EXPECT_EQ(version(LinearProcess{drift, noise}), 2);
    const Model linear = read_model(path("m.dynkin"));
    EXPECT_TRUE(cases::same_bytes(std::get<LinearProcess>(linear.process).drift, drift));
    EXPECT_TRUE(cases::same_bytes(std::get<LinearProcess>(linear.process).noise, noise));
}

TEST_F(ModelFile, FilesThatDoNotNameTheirProcessHaveTheOneOfTheirBlock) {
    for (ReferenceKind kind : {ReferenceKind::hermite, ReferenceKind::fitted}) {
        TensorFile file = tensors(kind);
        file.metadata.erase("process");
        EXPECT_EQ(process_of(file), kind == ReferenceKind::hermite ? "ou" : "fitted");
        write_tensor_file(path("old"), file);
        EXPECT_EQ(read_model(path("old")).process.index(), kind == ReferenceKind::hermite ? 1u : 0u);
    }
}

TEST_F(ModelFile, UnknownProcessesAndBoxesThatAreNoneAreRefused) {
    Model model = rich_model(ReferenceKind::hermite);
    model.process = BoxProcess{{0, 1, 2}, {1, 2, 4}, 0};
    write_model(path("m"), model);
    const TensorFile sound = read_tensor_file(path("m"), "dynkin-model", 2);
    expect_refused(sound, "unknown process", [](TensorFile& f) { f.metadata["process"] = "poisson"; });
    TensorFile controls = sound; // found by fuzzing: the message was not one line
    controls.metadata["process"] = "poi\nsson\x1b";
    write_tensor_file(path("controls"), controls);
    cases::expect_error(
        ErrorKind::input, [&] { read_model(path("controls")); }, "unknown process 'poi?sson?'");
    expect_refused(sound, "empty box", [](TensorFile& f) {
        f.put("process.upper", std::vector<double>{1, 1, 4});
    });
    expect_refused(sound, "short box", [](TensorFile& f) {
        f.put("process.upper", std::vector<double>{1, 2});
    });
    expect_refused(sound, "newer version", [](TensorFile& f) { f.version = 3; });
}

TEST_F(ModelFile, WritingAgainGivesTheSameBytes) {
    const auto first = written(rich_model(ReferenceKind::fitted), "a");
    EXPECT_EQ(bytes(first), bytes(written(read_model(first), "b")));
}

TEST_F(ModelFile, SamplesOfTheFileAreThoseOfTheModel) {
    for (ReferenceKind kind : {ReferenceKind::hermite, ReferenceKind::fitted}) {
        const Model model = rich_model(kind), back = read_model(written(model));
        for (Method method : {Method::sde, Method::ode}) {
            SampleOptions options;
            options.method = method, options.steps = 4;
            const Samples a = sample(cases::context(), model, 100, options),
                          b = sample(cases::context(), back, 100, options);
            EXPECT_TRUE(cases::same_bytes(a.rows, b.rows));
            EXPECT_TRUE(cases::same_bytes(a.log_density, b.log_density));
        }
    }
}

// Cutting or extending these gives another model that is sound: fewer eigenfunctions kept, a potential of
// another degree.
bool may_change_size(const std::string& name) {
    return name.ends_with("lambda") || name.ends_with("potential");
}

TEST_F(ModelFile, TensorsThatAreAbsentOrOfAnotherSizeAreRefused) {
    for (ReferenceKind kind : {ReferenceKind::hermite, ReferenceKind::fitted}) {
        const TensorFile sound = tensors(kind);
        for (const auto& entry : sound.tensors) {
            const std::string& name = entry.first;
            expect_refused(sound, name + " absent", [&](TensorFile& f) { f.tensors.erase(name); });
            expect_refused(sound, name + " empty", [&](TensorFile& f) {
                Tensor& t = f.tensors[name];
                const bool empty = t.f64.empty() && t.i64.empty() && t.u64.empty();
                t.f64.clear(), t.i64.clear(), t.u64.clear(), t.shape = {0};
                if (empty || name == "block0.pairs")
                    f.tensors.erase(name); // none at all is another basis: see the sizes
            });
            if (may_change_size(name)) continue;
            expect_refused(sound, name + " longer", [&](TensorFile& f) {
                Tensor& t = f.tensors[name];
                if (!t.f64.empty())
                    t.f64.push_back(t.f64.back()), t.shape = {t.f64.size()};
                else if (!t.i64.empty())
                    t.i64.push_back(7), t.shape = {t.i64.size()};
                else
                    t.u64.push_back(7), t.shape = {t.u64.size()};
            });
        }
    }
}

TEST_F(ModelFile, NumbersThatAreNotFiniteAreRefused) {
    for (ReferenceKind kind : {ReferenceKind::hermite, ReferenceKind::fitted}) {
        const TensorFile sound = tensors(kind);
        for (const auto& [name, tensor] : sound.tensors)
            for (double bad : {static_cast<double>(NAN), static_cast<double>(INFINITY)})
                if (!tensor.f64.empty())
                    expect_refused(sound, fmt::format("{} {}", name, bad), [&, n = name](TensorFile& f) {
                        auto& values = f.tensors[n].f64;
                        values[values.size() / 2] = bad;
                    });
    }
}

TEST_F(ModelFile, IntegersOutOfRangeAreRefused) {
    const TensorFile sound = tensors(ReferenceKind::fitted);
    for (const auto& [name, tensor] : sound.tensors) {
        if (name == "view.columns" || name == "default_steps" || tensor.i64.empty()) continue;
        for (size_t k = 0; k < tensor.i64.size(); ++k)
            for (std::int64_t bad : {std::int64_t{-1}, std::int64_t{1} << 40}) {
                const auto change = [&, n = name](TensorFile& f) { f.tensors[n].i64[k] = bad; };
                expect_refused(sound, fmt::format("{}[{}] = {}", name, k, bad), change);
            }
    }
}

/// Replaces the numbers of a tensor.
auto set(const std::string& name, std::vector<double> values) {
    return [=](TensorFile& f) { f.put(name, values); };
}
auto set_integers(const std::string& name, std::vector<std::int64_t> values) {
    return [=](TensorFile& f) { f.put(name, values); };
}

TEST_F(ModelFile, ColumnsAndShapesThatDisagreeAreRefused) {
    const TensorFile sound = tensors(ReferenceKind::fitted);
    const std::pair<const char*, std::vector<std::int64_t>> changes[] = {
        {"view.columns", {0, 0}},
        {"view.columns", {5, 0}},
        {"view.columns", {4, -1}},
        {"view.kept", {0, 3, 1}},
        {"view.kept", {0, 1, 1}},
        {"view.kept", {0, 1, 4}},
        {"view.kept", {0, 1}},
        {"sample_shape", {2, 3}},
        {"sample_shape", {4, 0}},
        {"default_steps", {0}},
        {"default_steps", {-5}},
        {"lattice.shape", {2, 3}},
        {"lattice.shape", {1, 2, 1, 2}},
        {"blocks", {0}},
        {"blocks", {2}},
        {"blocks", {1 << 20}},
        {"block0.families", {0}},
        {"block0.families", {2}},
        {"block0.family_of", {0, 0, 1}},
        {"block0.family0.kind", {2}},
        {"block0.family0.kind", {0}},
    };
    for (const auto& [name, values] : changes) {
        if (std::string(name) == "block0.family0.kind" && values[0] == 0) continue; // Hermite then: see below
        expect_refused(sound, fmt::format("{} {}", name, values.back()), set_integers(name, values));
    }
    expect_refused(sound, "boundary", [](TensorFile& f) { f.metadata["lattice_boundary"] = "open"; });
    expect_refused(sound, "configuration", [](TensorFile& f) { f.metadata.erase("configuration"); });
    expect_refused(sound, "scale 0", set("scale", {1, 0, 1}));
    expect_refused(sound, "scale negative", set("scale", {1, -1, 1}));
    expect_refused(sound, "type", set("block0.coordinates", {0, 1, 2}));
}

TEST_F(ModelFile, BlocksThatDoNotHoldEachCoordinateOnceAreRefused) {
    const TensorFile sound = tensors(ReferenceKind::hermite);
    expect_refused(sound, "twice", set_integers("block0.coordinates", {0, 1, 1}));
    expect_refused(sound, "outside", set_integers("block0.coordinates", {0, 1, 3}));
    expect_refused(sound, "another order", set_integers("block0.coordinates", {2, 1, 0}));
    expect_refused(
        sound, "one is missing", [](TensorFile& f) { // a sound block of one site among three coordinates
            f.put("block0.coordinates", std::vector<std::int64_t>{0});
            f.put("block0.family_of", std::vector<std::int64_t>{0});
            f.put("block0.pairs", std::vector<std::int64_t>{});
            f.put("block0.coefficients", std::vector<double>(7 * 2, 0.1));
            f.put("block0.lower", std::vector<double>{-1}), f.put("block0.upper", std::vector<double>{1});
        });
}

TEST_F(ModelFile, BasesThatCannotBeAreRefused) {
    const TensorFile sound = tensors(ReferenceKind::fitted);
    for (std::int64_t degree : {0, 5, 25, 1000}) // 4 eigenfunctions are kept
        expect_refused(sound, fmt::format("degree {}", degree), set_integers("block0.basis", {degree, 0, 0}));
    expect_refused(sound, "even", set_integers("block0.basis", {2, 0, 1})); // fewer terms than coefficients
    for (const std::vector<std::int64_t>& pairs : {std::vector<std::int64_t>{0, 1, 1, 0, 1, 1, 1, 2, 1},
                                                   {0, 2, 1, 0, 1, 1, 1, 2, 1},
                                                   {0, 1, 1, 0, 2, 1, 2, 1, 1},
                                                   {0, 1, 1, 0, 2, 1, 2, 2, 1},
                                                   {0, 1, 1, 0, 2, 1, 1, 3, 1},
                                                   {0, 1, 1, 0, 2, 1, 1, 2, 0},
                                                   {0, 1, 1, 0, 2, 1, 1, 2, 2},
                                                   {0, 1, 1, 0, 2, 1, 1, 2, 1 << 29},
                                                   {0, 1, 1, 0, 2, 1},
                                                   {0, 1, 1, 0}})
        expect_refused(sound, "pairs", set_integers("block0.pairs", pairs));
}

TEST_F(ModelFile, ReferencesThatCannotBeAreRefused) {
    const TensorFile sound = tensors(ReferenceKind::fitted), hermite = tensors(ReferenceKind::hermite);
    const std::string family = "block0.family0.";
    for (const std::vector<double>& lambda :
         {std::vector<double>{0, 1, 1, 3, 4}, {0, 2, 1, 3, 4}, {-1, 1, 2, 3, 4}, {0.5, 1, 2, 3, 4}})
        expect_refused(sound, "lambda", set(family + "lambda", lambda));
    for (const std::vector<double>& lambda : {std::vector<double>{0, 1, 2, 4}, {1, 2, 3, 4}, {0, 1, 1.5}})
        expect_refused(hermite, "lambda of Hermite", set(family + "lambda", lambda));
    expect_refused(sound, "box", set(family + "box", {1, 1, 0}));
    expect_refused(sound, "box", set(family + "box", {2, -2, 0}));
    expect_refused(sound, "potential", set(family + "potential", {0}));
    expect_refused(sound, "potential", set(family + "potential", std::vector<double>(11, 0.1)));
    expect_refused(sound, "recurrence_b",
                   [&](TensorFile& f) { f.tensors[family + "recurrence_b"].f64[3] = 0; });
    expect_refused(sound, "recurrence_b",
                   [&](TensorFile& f) { f.tensors[family + "recurrence_b"].f64[1] = -1; });
}

TEST_F(ModelFile, TimesThatDisagreeAreRefused) {
    const TensorFile sound = tensors(ReferenceKind::hermite);
    const std::vector<double> times = sound.f64("block0.times"), nodes = sound.f64("block0.node_time");
    for (const std::vector<double>& bad : {std::vector<double>{-1e-3, 12, 0.02},
                                           {12, 1e-3, 0.02},
                                           {1e-3, 12, 0},
                                           {1e-3, 1e-3, 0.02},
                                           {1e-3, 13, 0.02},
                                           {2e-3, 12, 0.02},
                                           {1e-3, 12, 0.03}})
        expect_refused(sound, fmt::format("times {} {} {}", bad[0], bad[1], bad[2]),
                       set("block0.times", bad));
    for (size_t k = 0; k < nodes.size();
         ++k) { // uniform in tau: what the spline through them takes for granted
        std::vector<double> moved = nodes;
        moved[k] *= 1.01;
        expect_refused(sound, fmt::format("node {}", k), set("block0.node_time", moved));
    }
    std::vector<double> swapped = nodes;
    std::swap(swapped[1], swapped[2]);
    expect_refused(sound, "nodes swapped", set("block0.node_time", swapped));
    expect_refused(sound, "range", set("block0.lower", {0, 7, 0}));
}

TEST_F(ModelFile, FilesThatAreNoModelsAreRefused) {
    cases::expect_error(
        ErrorKind::io, [&] { read_model(path("absent")); }, "absent");
    TensorFile checkpoint = tensors(ReferenceKind::hermite);
    checkpoint.format = "dynkin-checkpoint";
    write_tensor_file(path("other"), checkpoint);
    cases::expect_error(
        ErrorKind::input, [&] { read_model(path("other")); }, "other");
    cases::expect_error(ErrorKind::io,
                        [&] { write_model(path("no/such/folder"), rich_model(ReferenceKind::hermite)); });
}

} // namespace
} // namespace dynkin
