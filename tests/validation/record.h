// record.h - figures of the validation tests: each is checked against its bar and logged for
// scripts/validate.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <string>

namespace dynkin::validation {

/// Fraction of the full sample sizes to use, from DYNKIN_VALIDATION_SCALE (default 1): continuous integration
/// runs one case at 0.1. Bars that rest on the sample size must be widened by the test itself.
inline double scale() {
    const char* text = std::getenv("DYNKIN_VALIDATION_SCALE");
    return text ? std::stod(text) : 1.0;
}

/// Expects `value comparison bar` (comparison "<=" or ">="; NaN fails) and appends the figure as one line of
/// JSON to the file that DYNKIN_VALIDATION_LOG names, if it does.
inline void record(const std::string& name, std::uint64_t seed, const std::string& figure, double value,
                   const std::string& comparison, double bar) {
    ASSERT_TRUE(comparison == "<=" || comparison == ">=") << comparison;
    const bool pass = comparison == "<=" ? value <= bar : value >= bar;
    EXPECT_TRUE(pass) << name << ", seed " << seed << ": " << figure << " = " << value << ", bar "
                      << comparison << ' ' << bar;
    if (const char* log = std::getenv("DYNKIN_VALIDATION_LOG")) {
        const nlohmann::ordered_json line = {
            {"name", name}, {"seed", seed}, {"figure", figure}, {"value", value}, {"comparison", comparison},
            {"bar", bar},   {"pass", pass}, {"scale", scale()}};
        std::ofstream(log, std::ios::app) << line.dump() + "\n" << std::flush;
    }
}

} // namespace dynkin::validation
