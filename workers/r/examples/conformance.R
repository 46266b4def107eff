# The methods by which `mlports check` looks more closely at an SDK.
source("mlports/mlports.R")

worker <- mlports_worker("conformance")
kept <- list()

worker$method("echo", function(request, value) value, idempotent = TRUE)
worker$method("add", function(request, a, b) a + b, idempotent = TRUE)
worker$method("fail", function(request, message) stop(message, call. = FALSE))
worker$method("refuse", function(request, code, message) stop(mlports_failure(code, message)))

worker$method("sleep", function(request, seconds) {
  Sys.sleep(seconds)
  seconds
})

worker$method("print", function(request, text) {
  cat(as.character(text), "\n", sep = "")
  NULL
})

worker$batch("root", function(request, xs) {
  lapply(xs, function(x) {
    if (x < 0) mlports_failure("invalid_argument", paste(x, "has no square root")) else sqrt(x)
  })
}, idempotent = TRUE)

worker$stream("count", function(request, n) for (number in seq_len(n)) request$emit(number - 1L))

worker$method("total", function(request) {
  sum <- 0L
  request$each_input(function(item) {
    sum <<- sum + item
    TRUE
  })
  sum
}, input = TRUE)

worker$method("relay", function(request, target, params) do.call(worker$call, c(list(request, target), params)))

worker$method("note", function(request, level, text) {
  worker$log(level, text)
  NULL
})

worker$method("advance", function(request, n) {
  for (done in seq_len(n)) request$progress(done, n)
  n
})

worker$method("mark", function(request, value) {
  kept <<- c(kept, list(value))
  NULL
})

worker$method("marks", function(request) kept)

worker$run()
