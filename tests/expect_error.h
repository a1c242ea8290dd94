// expect_error.h - that something throws an Error, of which kind, and in one line with what in it.
#pragma once
#include "engine/error.h"
#include <gtest/gtest.h>
#include <string>
#include <vector>

namespace dynkin::cases {

template <class F> void expect_error(ErrorKind kind, const std::vector<std::string>& parts, const F& action) {
    try {
        action();
        ADD_FAILURE() << "no error, expected one with " << testing::PrintToString(parts);
    } catch (const Error& error) {
        const std::string what = error.what();
        EXPECT_EQ(static_cast<int>(error.kind()), static_cast<int>(kind)) << what;
        EXPECT_EQ(what.find('\n'), std::string::npos) << what;
        EXPECT_LT(what.size(), 400u) << what;
        for (const std::string& part : parts)
            EXPECT_NE(what.find(part), std::string::npos) << "expected '" << part << "' in: " << what;
    }
}

template <class F> void expect_error(ErrorKind kind, const F& action, const std::string& part = "") {
    expect_error(kind, std::vector<std::string>{part}, action);
}

} // namespace dynkin::cases
