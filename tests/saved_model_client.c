/* Runs a SavedModel of two string inputs through TensorFlow's C API, as TF Serving's loader does:
 * no Python anywhere.
 *
 *   saved_model_client FOLDER OUTPUT INDEX B INPUT TEXT*B INPUT TEXT*B OP_LIBRARY...
 *
 * INPUT and OUTPUT are names of graph operations, INDEX the number of OUTPUT's output, which is
 * float32. Prints that output's numbers, one a line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"
#include "tensorflow/c/tf_tstring.h"

static TF_Status* status;

static void check(const char* what) {
  if (TF_GetCode(status) != TF_OK) {
    fprintf(stderr, "%s: %s\n", what, TF_Message(status));
    exit(1);
  }
}

/* A string tensor [n]. */
static TF_Tensor* strings(char** texts, int64_t n) {
  TF_Tensor* tensor = TF_AllocateTensor(TF_STRING, &n, 1, n * sizeof(TF_TString));
  TF_TString* items = TF_TensorData(tensor);
  for (int64_t i = 0; i < n; i++) {
    TF_TString_Init(&items[i]);
    TF_TString_Copy(&items[i], texts[i], strlen(texts[i]));
  }
  return tensor;
}

static TF_Output find(TF_Graph* graph, const char* name, int index) {
  TF_Output output = {TF_GraphOperationByName(graph, name), index};
  if (output.oper == NULL) {
    fprintf(stderr, "no operation %s\n", name);
    exit(1);
  }
  return output;
}

int main(int argc, char** argv) {
  const int batch = argc > 4 ? atoi(argv[4]) : 0;
  const int libraries = 5 + 2 * (batch + 1);
  if (batch < 1 || argc < libraries) {
    fprintf(stderr, "wrong arguments\n");
    return 2;
  }
  status = TF_NewStatus();
  for (int i = libraries; i < argc; i++) {
    TF_LoadLibrary(argv[i], status);
    check(argv[i]);
  }
  const char* tags[] = {"serve"};
  TF_Graph* graph = TF_NewGraph();
  TF_SessionOptions* options = TF_NewSessionOptions();
  TF_Session* session =
      TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
  check(argv[1]);

  TF_Output inputs[2];
  TF_Tensor* values[2];
  for (int i = 0; i < 2; i++) {
    char** input = argv + 5 + i * (batch + 1);
    inputs[i] = find(graph, input[0], 0);
    values[i] = strings(input + 1, batch);
  }
  TF_Output output = find(graph, argv[2], atoi(argv[3]));
  TF_Tensor* result = NULL;
  TF_SessionRun(session, NULL, inputs, values, 2, &output, &result, 1, NULL, 0, NULL, status);
  check("run");
  if (TF_TensorType(result) != TF_FLOAT) {
    fprintf(stderr, "the output is not float32\n");
    return 1;
  }
  const float* numbers = TF_TensorData(result);
  for (int64_t i = 0; i < TF_TensorElementCount(result); i++) printf("%.9g\n", numbers[i]);
  return 0;
}
