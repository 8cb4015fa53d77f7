/*
 * manifest.h - a manifest with something in every member, for tests.
 */
#ifndef KEDGE_TESTS_SUPPORT_MANIFEST_H
#define KEDGE_TESTS_SUPPORT_MANIFEST_H

#include "repo/manifest.h"

/* Two disks (vda with two layers, vdb with one), states "current" and snapshot "night/3" (id 17), for chunks of 64
 * KiB. */
struct manifest *test_manifest(const char *vm, uint64_t sequence);

#endif
