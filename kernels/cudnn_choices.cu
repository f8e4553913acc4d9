// Which of cuDNN's algorithms were the fastest, kept in a file of the caller's so that the next
// start need not time them again. The file is text: a line that says what it is, one with cuDNN's
// version and the device, a line of numbers for each choice (a key's, then the algorithm), and how
// many there are. It is written whole after each choice, which a timing came before.
//
// A file for another version or device counts as empty. One that is no such list is refused, so
// that no file of another kind is ever written over.
#include "cudnn_plan.cuh"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SMALL = 24, NUMBERS = SMALL + 2, LINE_BYTES = 24 * NUMBERS, HEAD_BYTES = 400,
       PATH_BYTES = 1024, MOST_CHOICES = 1 << 16 };
static const char title[] = "Choices among cuDNN's algorithms by moonlet, form 1\n";

struct dnn_choice { dnn_key key; int64_t algorithm; };
static_assert(sizeof(dnn_key) == SMALL * sizeof(int32_t) + sizeof(int64_t),
              "a key is 24 small numbers and a large one");

struct cudnn_choices {
  char path[PATH_BYTES];      // "" once it could not be written
  int64_t count, room;
  dnn_choice *list;
};

void cudnn_choices_end(cuda_context *c) {
  if (c->choices) free(c->choices->list);
  free(c->choices);
  c->choices = nullptr;
}

static dnn_choice *find(const cudnn_choices *choices, const dnn_key &key) {
  for (int64_t i = 0; i < choices->count; i++)
    if (memcmp(&choices->list[i].key, &key, sizeof key) == 0) return &choices->list[i];
  return nullptr;
}

int cudnn_choice(const cuda_context *c, const dnn_key &key) {
  const dnn_choice *known = c->choices ? find(c->choices, key) : nullptr;
  return known ? (int)known->algorithm : -1;
}

static moon_status append(cudnn_choices *choices, const dnn_choice &choice) {
  if (choices->count == choices->room) {
    int64_t room = choices->room > 0 ? 2 * choices->room : 16;
    void *larger = realloc(choices->list, (size_t)room * sizeof *choices->list);
    if (!larger) return moon_fail(MOON_OUT_OF_MEMORY, "benchmark: no memory for cuDNN's choices");
    choices->list = (dnn_choice *)larger;
    choices->room = room;
  }
  choices->list[choices->count++] = choice;
  return MOON_OK;
}

// -- writing

static moon_status head_of(const cuda_context *c, char (&head)[HEAD_BYTES]) {
  cudaDeviceProp properties;
  CUDA_TRY(cudaGetDeviceProperties(&properties, c->device));
  snprintf(head, sizeof head, "cuDNN %lld on %s\n", (long long)cudnn_version(), properties.name);
  return MOON_OK;
}

static int print_choice(const dnn_choice &choice, char *to, size_t room) {
  int32_t small[SMALL];
  size_t used = 0;
  memcpy(small, &choice.key, sizeof small);
  for (int i = 0; i < SMALL; i++)
    used += (size_t)snprintf(to + used, room - used, "%d ", (int)small[i]);
  used += (size_t)snprintf(to + used, room - used, "%lld %lld\n", (long long)choice.key.workspace,
                           (long long)choice.algorithm);
  return (int)used;
}

static moon_status write_choices(const cuda_context *c) {
  const cudnn_choices *choices = c->choices;
  char head[HEAD_BYTES];
  MOON_TRY(head_of(c, head));
  size_t room = sizeof title + HEAD_BYTES + (size_t)(choices->count + 1) * LINE_BYTES;
  char *text = (char *)malloc(room);
  if (!text) return moon_fail(MOON_OUT_OF_MEMORY, "benchmark: no memory for cuDNN's choices");
  size_t used = (size_t)snprintf(text, room, "%s%s", title, head);
  for (int64_t i = 0; i < choices->count; i++)
    used += (size_t)print_choice(choices->list[i], text + used, room - used);
  used += (size_t)snprintf(text + used, room - used, "end %lld\n", (long long)choices->count);
  moon_status status = cuda_library->write_file(choices->path, text, used);
  free(text);
  return status;
}

moon_status cudnn_keep_choice(cuda_context *c, const dnn_key &key, int algorithm) {
  cudnn_choices *choices = c->choices;
  if (!choices || !choices->path[0] || choices->count == MOST_CHOICES) return MOON_OK;
  moon_status status = MOON_OK;
  if (dnn_choice *known = find(choices, key)) known->algorithm = algorithm;
  else status = append(choices, { key, algorithm });
  if (status == MOON_OK) status = write_choices(c);
  if (status != MOON_OK) choices->path[0] = 0;   // said once; then it goes on without
  return status;
}

// -- reading; each of these takes its part from the front of the text

static bool take_text(const char **text, const char *wanted) {
  size_t length = strlen(wanted);
  if (strncmp(*text, wanted, length) != 0) return false;
  *text += length;
  return true;
}

static bool take_number(const char **text, char behind, int64_t *number) {
  char *end;
  if (**text != '-' && (**text < '0' || **text > '9')) return false;
  *number = strtoll(*text, &end, 10);
  if (*end != behind) return false;
  *text = end + 1;
  return true;
}

static bool take_choice(const char **text, dnn_choice *choice) {
  int32_t small[SMALL];
  int64_t number;
  for (int i = 0; i < SMALL; i++) {
    if (!take_number(text, ' ', &number) || number < INT32_MIN || number > INT32_MAX) return false;
    small[i] = (int32_t)number;
  }
  memcpy(&choice->key, small, sizeof small);
  return take_number(text, ' ', &choice->key.workspace) &&
         take_number(text, '\n', &choice->algorithm) && choice->algorithm >= 0 &&
         choice->algorithm < DNN_ALGORITHMS;
}

static bool take_end(const char **text, int64_t count) {
  int64_t told;
  return take_text(text, "end ") && take_number(text, '\n', &told) && told == count &&
         **text == 0;
}

static moon_status read_choices(cudnn_choices *choices, const char *head, const char *text) {
  const moon_status damaged = MOON_BAD_FILE;
  if (!*text) return MOON_OK;
  if (!take_text(&text, title)) return damaged;
  if (!take_text(&text, head)) return take_text(&text, "cuDNN ") ? MOON_OK : damaged;
  while (!take_end(&text, choices->count)) {
    dnn_choice choice;
    if (choices->count == MOST_CHOICES || !take_choice(&text, &choice)) return damaged;
    MOON_TRY(append(choices, choice));
  }
  return MOON_OK;
}

// -- the entry

static moon_status open_choices(cuda_context *c, const char *path, const char *text) {
  char head[HEAD_BYTES];
  MOON_TRY(head_of(c, head));
  c->choices = (cudnn_choices *)calloc(1, sizeof *c->choices);
  if (!c->choices) return moon_fail(MOON_OUT_OF_MEMORY, "benchmark: no memory for cuDNN's choices");
  snprintf(c->choices->path, PATH_BYTES, "%s", path);
  moon_status status = read_choices(c->choices, head, text);
  if (status == MOON_BAD_FILE)
    return moon_fail(MOON_BAD_FILE, "benchmark: %s holds no choices of cuDNN's, or is damaged; "
                     "remove it or name another file", path);
  if (status == MOON_OK && c->choices->count == 0) status = write_choices(c);   // or say why not
  return status;
}

moon_status cudnn_keep_choices(cuda_context *c, const char *path, const char *text) {
  if (!cudnn_is_there()) return MOON_OK;
  if (strlen(path) >= PATH_BYTES)
    return moon_fail(MOON_BAD_ARGUMENT, "benchmark: a path of %d bytes and more is too long",
                     PATH_BYTES);
  cudnn_choices_end(c);
  moon_status status = open_choices(c, path, text);
  if (status != MOON_OK) cudnn_choices_end(c);
  return status;
}
