// json_text.h - JSON that stands in files, of bounded depth (private: included by .cpp files only).
#pragma once
#include <nlohmann/json.hpp>
#include <string>

namespace dynkin {

/// The value of a text; discarded when it is no JSON, or nests more than 64 deep: a file must not decide how
/// deep dump() and others recurse.
template <class Json> Json parse_json(const std::string& text) {
    bool too_deep = false;
    const auto limit = [&](int depth, typename Json::parse_event_t, Json&) {
        too_deep |= depth > 64;
        return !too_deep; // what is discarded is not stored
    };
    Json parsed = Json::parse(text, limit, false);
    return too_deep ? Json(Json::value_t::discarded) : parsed;
}

} // namespace dynkin
