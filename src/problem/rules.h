// rules.h: what a rule of validation looks like, and the tables of them. Not here: the rules
// (rules_*.cpp), the walk (validate.cpp).
#pragma once

#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "heed/problem.h"
#include "problem/layout.h"

namespace heed {

// One row of a table. A problem that breaks it is answered with the sentence: the field, the
// numbers, what would be accepted. A rule may rely on every rule before it.
struct Rule {
  const char* name;  // unique; for a rule about one field, the field
  bool (*broken)(const Problem&);
  std::string (*say)(const Problem&, const Rule&);
  const char* accepted = "";  // a piece of the sentence, for rows that share `say`
};

// Rules that matter only to some problems.
struct RuleGroup {
  bool (*any_broken)(const Problem&);  // all rows in one function: a valid problem costs few calls
  std::span<const Rule> rules;
};

template <const auto& table>
constexpr bool AnyBroken(const Problem& p) {
  return [&]<std::size_t... i>(std::index_sequence<i...>) { return (table[i].broken(p) || ...); }
  (std::make_index_sequence<std::size(table)>());
}

// The rows of a table, for the problems that it applies to.
template <const auto& table, bool (*applies)(const Problem&)>
constexpr RuleGroup When() {
  return {[](const Problem& p) { return applies(p) && AnyBroken<table>(p); }, table};
}

template <const auto& table>
constexpr RuleGroup Always() {
  return {AnyBroken<table>, table};
}

// In this order: each table relies on those before it.
std::span<const RuleGroup> ValueRules();   // each field alone
std::span<const RuleGroup> CacheRules();   // the cache and what it excludes
std::span<const RuleGroup> ShapeRules();   // fields against each other
std::span<const RuleGroup> ResultRules();  // what is wanted
std::span<const RuleGroup> LayoutRules();  // strides, and that every offset fits

// The first rule broken, or null.
const Rule* FirstBroken(const Problem& problem);

// ---------------------------------------------------------------- shared by the tables

// The value of a field of Problem, or of its cache.
template <auto Field>
constexpr auto Get(const Problem& p) {
  if constexpr (requires { p.*Field; }) {
    return p.*Field;
  } else {
    return p.cache.*Field;
  }
}

// The first word of a rule's name: the field it is about.
inline std::string_view FieldOf(const Rule& rule) {
  const std::string_view name = rule.name;
  return name.substr(0, name.find(' '));
}

template <auto Field, std::int64_t low, std::int64_t high>
bool Outside(const Problem& p) {
  return Get<Field>(p) < low || Get<Field>(p) > high;
}

}  // namespace heed
