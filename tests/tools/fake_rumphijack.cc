// Stands for librumphijack.so: a library that can be preloaded and does nothing.
extern "C" int rump_test_preloaded() { return 1; }
