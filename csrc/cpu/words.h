// Elements moved by size, whatever their type: unsigned words of 1, 2, 4 and 8 bytes.
#ifndef MOON_CPU_WORDS_H
#define MOON_CPU_WORDS_H

#include <stdint.h>

typedef uint8_t __attribute__((may_alias)) word1;
typedef uint16_t __attribute__((may_alias)) word2;
typedef uint32_t __attribute__((may_alias)) word4;
typedef uint64_t __attribute__((may_alias)) word8;

#endif
