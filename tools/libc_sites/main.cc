// Writes the table of the system calls in one or several libcs that librumphijack.so is built with,
// as C++: definitions for hijack/libc_tables.cc.
#include <iostream>
#include <optional>
#include <string>

#include "tools/libc_sites/elf_file.h"
#include "tools/libc_sites/site_finder.h"

namespace rump {
namespace {

std::optional<ElfFile> ReadLibc(const char* path) {
  auto libc = ReadElfFile(path);
  if (!libc.has_value() || libc->build_id.empty()) {
    std::cerr << "libc_sites: " << path << ": no x86-64 shared library with a build-id\n";
    return std::nullopt;
  }
  return libc;
}

void WriteTable(const ElfFile& libc, const std::vector<hijack::CallSite>& sites, int i) {
  std::cout << "constexpr uint8_t kBuildId" << i << "[] = {";
  for (const uint8_t byte : BuildId(libc)) std::cout << unsigned{byte} << ", ";
  std::cout << "};\nconstexpr CallSite kSites" << i << "[] = {\n" << std::hex << std::showbase;
  for (const hijack::CallSite& site : sites) {
    std::cout << "    {" << site.address << ", " << site.cave << ", " << std::dec << site.number
              << ", " << int{site.displaced} << std::hex << "},  //";
    for (const Symbol& function : libc.functions) {
      if (site.address - function.address < function.size) std::cout << " " << function.name;
    }
    std::cout << "\n";
  }
  std::cout << "};\n" << std::dec;
}

int Main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: libc_sites LIBC...\n";
    return 2;
  }
  std::string tables;
  for (int i = 1; i < argc; ++i) {
    const auto libc = ReadLibc(argv[i]);
    if (!libc.has_value()) return 1;
    const FoundSites found = FindCallSites(*libc);
    for (const RefusedSite& refused : found.refused) {
      std::cerr << "libc_sites: " << argv[i] << ": system call " << refused.number << " at "
                << std::hex << std::showbase << refused.address << std::dec << ": "
                << refused.reason << "\n";
    }
    WriteTable(*libc, found.sites, i);
    tables += "    {kBuildId" + std::to_string(i) + ", kSites" + std::to_string(i) +
              (found.refused.empty() ? ", true},\n" : ", false},\n");
  }
  std::cout << "constexpr LibcTable kLibcTables[] = {\n" << tables << "};\n";
  return 0;
}

}  // namespace
}  // namespace rump

int main(int argc, char** argv) { return rump::Main(argc, argv); }
