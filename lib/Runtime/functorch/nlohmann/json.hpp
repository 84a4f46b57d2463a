//===- json.hpp - what torch's functorch headers need of nlohmann/json ---*- C++ -*-===//
//
// They include it to write interpreters as text, and torch ships without it. These declarations let them compile;
// nothing calls what uses them.
//
//===----------------------------------------------------------------------------===//

#ifndef PFCN_LIB_RUNTIME_FUNCTORCH_NLOHMANN_JSON_HPP
#define PFCN_LIB_RUNTIME_FUNCTORCH_NLOHMANN_JSON_HPP

#include <string>

namespace nlohmann {

struct json {
  json() = default;
  template <typename T> explicit json(const T &) {}
  static json parse(const std::string &) { return {}; }
  std::string dump() const { return {}; }
  template <typename T> T get() const;
};

} // namespace nlohmann

#endif // PFCN_LIB_RUNTIME_FUNCTORCH_NLOHMANN_JSON_HPP
