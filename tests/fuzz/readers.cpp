// readers.cpp - libFuzzer targets of everything that reads files: fuzz_readers --target=NAME [libFuzzer's
// options] CORPUS.
#include "apps/process_files.h"
#include "engine/checkpoint.h"
#include "engine/drift.h"
#include "engine/error.h"
#include "engine/model_file.h"
#include "engine/nonlinear_model.h"
#include "engine/npy.h"
#include "engine/observables.h"
#include "engine/prior.h"
#include "engine/target.h"
#include "fuzz.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <unistd.h>
#include <vector>

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t capacity);

namespace dynkin::fuzz {

Folder::Folder() {
    char name[] = "/dev/shm/dynkin-fuzz-XXXXXX";
    if (!mkdtemp(name)) std::perror(name), std::abort();
    path_ = name;
}

Folder::~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

std::string Folder::write(const char* name, std::string_view content) const {
    std::ofstream file(path(name), std::ios::binary | std::ios::trunc);
    file.write(content.data(), static_cast<std::streamsize>(content.size()));
    if (!file.flush()) std::perror(name), std::abort();
    return path(name);
}

std::string expect_input_error(const std::function<void()>& read) {
    try {
        read();
        return {};
    } catch (const Error& error) {
        const std::string message = error.what();
        bool line = !message.empty();
        for (const char c : message) line &= c >= ' ' || c < 0; // paths may have any bytes
        if (error.kind() == ErrorKind::input && line) return message;
        std::fprintf(stderr, "kind %d: %s\n", static_cast<int>(error.kind()), message.c_str());
        std::abort();
    }
}

namespace {

const Folder& folder() {
    static const Folder once;
    return once;
}

void read_samples(Bytes bytes) {
    const std::string path = folder().write("fuzz.npy", text(bytes));
    expect_input_error([&] {
        const SampleFile file(path);
        file.fingerprint();
        std::vector<double> wide(file.rows() * file.cols());
        std::vector<float> narrow(wide.size());
        file.read_any(0, file.rows(), wide.data());
        file.read(file.rows() / 2, file.rows() - file.rows() / 2, wide.data());
        file.read(0, file.rows(), narrow.data());
    });
}

/// Reads a tensor file; where its checksum alone is wrong, which chance does not get right, once more with
/// the one that the reader asks for.
bool read_checked(const char* name, Bytes bytes, const std::function<void(const std::string&)>& read) {
    std::string content(text(bytes));
    const std::string path = folder().write(name, content);
    const auto attempt = [&] { return expect_input_error([&] { read(path); }); };
    std::string message = attempt();
    const std::string_view said = "checksum: the content gives ", key = "\"checksum\":\"";
    const std::size_t at = message.find(said), field = content.find(key);
    if (at != std::string::npos && field != std::string::npos && field + key.size() + 16 <= content.size()) {
        content.replace(field + key.size(), 16, message, at + said.size(), 16);
        folder().write(name, content);
        message = attempt();
    }
    return message.empty();
}

/// What a reader takes, its writer must write and the reader take again.
template <class Read, class Write> void read_and_write(Bytes bytes, Read read, Write write) {
    if (!read_checked("fuzz.dynkin", bytes, [&](const std::string& path) { read(path); })) return;
    const std::string copy = folder().path("copy.dynkin");
    write(copy, read(folder().path("fuzz.dynkin")));
    read(copy);
}

void read_models(Bytes bytes) { read_and_write(bytes, read_model, write_model); }
void read_nonlinear(Bytes bytes) { read_and_write(bytes, read_nonlinear_model, write_nonlinear_model); }
void read_priors(Bytes bytes) { read_and_write(bytes, read_prior, write_prior); }

void read_checkpoints(Bytes bytes) {
    const std::string identity =
        R"({"command":"sample","model":"m.dynkin","samples":2000,"version":"0.1.0"})";
    read_checked("fuzz.checkpoint", bytes, [&](const std::string& path) {
        Checkpoint checkpoint({.path = path, .identity = identity, .resume = true});
        if (const auto state = checkpoint.restore()) state->u64("counts", 2), state->f64("error", 1);
    });
}

/// A target and the formulas beside it; what was read, written as JSON, is what it says.
void read_targets(Bytes bytes) {
    expect_input_error([&] {
        const Target target = parse_target(text(bytes), "fuzz.toml");
        parse_observables(text(bytes), "fuzz.toml", target);
    });
}

void read_drifts(Bytes bytes) {
    expect_input_error([&] {
        const DriftProcess process = parse_drift(text(bytes), "fuzz.toml");
        drift_from_json(process.canonical_json, "canonical");
    });
}

void read_matrices(Bytes bytes) {
    const std::string path = folder().write("fuzz.toml", text(bytes));
    expect_input_error([&] { app::read_matrix(path, "drift"); });
}

void read_formulas(Bytes bytes) {
    const Lattice lattice{{4, 3}, Boundary::periodic};
    expect_input_error([&] { parse_polynomial("name", text(bytes), 12, &lattice); });
}

struct Reader {
    std::string_view name;
    void (*read)(Bytes);
    bool tensors = false;
};
constexpr Reader readers[] = {{"npy", read_samples},
                              {"model", read_models, true},
                              {"nonlinear", read_nonlinear, true},
                              {"prior", read_priors, true},
                              {"checkpoint", read_checkpoints, true},
                              {"target", read_targets},
                              {"drift", read_drifts},
                              {"matrix", read_matrices},
                              {"formula", read_formulas}};
const Reader* chosen = nullptr;

} // namespace
} // namespace dynkin::fuzz

using namespace dynkin::fuzz;

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
    const std::string_view flag = "--target="; // libFuzzer passes over what begins with --
    for (int k = 1; k < *argc; ++k)
        for (const Reader& reader : readers)
            if (std::string_view((*argv)[k]) == std::string(flag) + std::string(reader.name))
                chosen = &reader;
    if (chosen) return 0;
    std::fputs("fuzz_readers: expected --target=NAME, one of", stderr);
    for (const Reader& reader : readers) std::fprintf(stderr, " %s", reader.name.data());
    std::fputs("\n", stderr);
    std::exit(2);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    chosen->read({data, size});
    return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t capacity,
                                               unsigned seed) {
    if (chosen->tensors && seed % 4 != 0)
        if (const std::size_t changed = mutate_tensors(folder(), data, size, capacity, seed)) return changed;
    return LLVMFuzzerMutate(data, size, capacity);
}
