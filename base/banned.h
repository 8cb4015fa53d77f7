/* banned.h - functions that must not be used here; forced into every file with -include. */
#ifndef KEDGE_BASE_BANNED_H
#define KEDGE_BASE_BANNED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <alloca.h>

#pragma GCC poison strcpy strcat sprintf vsprintf strncpy strncat strtok gets
#pragma GCC poison gmtime localtime asctime ctime atoi atol atoll
#undef alloca
#pragma GCC poison alloca

#endif
