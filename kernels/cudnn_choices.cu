// Which of cuDNN's algorithms were the fastest, kept in a file of the caller's so that the next
// start need not time them again. The file is text: a line that says what it is, one with cuDNN's
// version and the device, a line of numbers for each choice (a key's, then the algorithm), and how
// many there are. It is written whole after each choice, which a timing came before. Lines of
// volumes hold more numbers than those of images.
//
// A file for another version or device counts as empty. One that is no such list is refused, so
// that no file of another kind is ever written over.
#include "cudnn_plan.cuh"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FLAGS = 6, SMALL = FLAGS + 3 * DNN_DIMS + 3 * DNN_SIDES + 1, NUMBERS = SMALL + 2,
       LINE_BYTES = 24 * NUMBERS, HEAD_BYTES = 400, PATH_BYTES = 1024, MOST_CHOICES = 1 << 16 };
static const char title[] = "Choices among cuDNN's algorithms by moonlet, form 2\n";

struct dnn_choice { dnn_key key; int64_t algorithm; };
static_assert(sizeof(dnn_key) == (1 + SMALL) * sizeof(int32_t) + sizeof(int64_t),
              "a key is the number of sides, what a line holds, and nothing between");

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

// -- a key's small numbers as they stand on a line, without the places that images leave empty

struct dnn_numbers {
  int count;
  int32_t *at[SMALL];

  explicit dnn_numbers(dnn_key *key) : count(0) {
    add(&key->direction, FLAGS);
    for (int32_t *sizes : { key->image, key->weight, key->result }) add(sizes, 2 + key->sides);
    for (int32_t *options : { key->padding, key->stride, key->dilation })
      add(options, key->sides);
    add(&key->groups, 1);
  }

 private:
  void add(int32_t *from, int many) {
    for (int i = 0; i < many; i++) at[count++] = from + i;
  }
};

// -- writing

static moon_status head_of(const cuda_context *c, char (&head)[HEAD_BYTES]) {
  cudaDeviceProp properties;
  CUDA_TRY(cudaGetDeviceProperties(&properties, c->device));
  snprintf(head, sizeof head, "cuDNN %lld on %s\n", (long long)cudnn_version(), properties.name);
  return MOON_OK;
}

static int print_choice(dnn_choice choice, char *to, size_t room) {
  const dnn_numbers small(&choice.key);
  size_t used = 0;
  for (int i = 0; i < small.count; i++)
    used += (size_t)snprintf(to + used, room - used, "%d ", (int)*small.at[i]);
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

// A line's, of which there are *count; false where it holds something else, or more.
static bool take_line(const char **text, int64_t (&numbers)[NUMBERS], int *count) {
  for (*count = 0; *count < NUMBERS;) {
    int64_t *number = &numbers[(*count)++];
    if (take_number(text, '\n', number)) return true;
    if (!take_number(text, ' ', number)) return false;
  }
  return false;
}

static bool take_choice(const char **text, dnn_choice *choice) {
  int64_t numbers[NUMBERS];
  int count;
  if (!take_line(text, numbers, &count)) return false;
  memset(choice, 0, sizeof *choice);
  choice->key.sides = count == NUMBERS ? DNN_SIDES : DNN_SIDES - 1;
  const dnn_numbers small(&choice->key);
  if (count != small.count + 2) return false;
  for (int i = 0; i < small.count; i++) {
    if (numbers[i] < INT32_MIN || numbers[i] > INT32_MAX) return false;
    *small.at[i] = (int32_t)numbers[i];
  }
  choice->key.workspace = numbers[small.count];
  choice->algorithm = numbers[small.count + 1];
  return choice->algorithm >= 0 && choice->algorithm < DNN_ALGORITHMS;
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
