# Logistic regression as R does it: glm with the binomial family, iteratively reweighted least squares (McCullagh and
# Nelder, Generalized Linear Models, 2.5). For more than two classes one model for each, over the first principal
# components, so that no class can be told from the others without error.
source("mlports/mlports.R")

worker <- mlports_worker("glm")
model <- NULL

rows_of <- function(x) {
  if (inherits(x, "mlports_ndarray")) return(as.array(x))
  widths <- unique(lengths(x))
  if (length(widths) > 1) stop(mlports_failure("invalid_argument", "rows of different lengths"))
  matrix(as.numeric(unlist(x)), nrow = length(x), byrow = TRUE)
}

check_labels <- function(x, y) {
  if (nrow(x) != length(y) || length(y) == 0) {
    stop(mlports_failure("invalid_argument", sprintf("%d rows and %d labels", nrow(x), length(y))))
  }
}

binomial_fit <- function(x, y, epsilon = 1e-8) {
  suppressWarnings(glm.fit(cbind(1, x), y, family = binomial(), control = glm.control(epsilon, 50)))
}

train <- function(x, y, components) {
  x <- rows_of(x)
  y <- as.numeric(unlist(y))
  check_labels(x, y)
  axes <- prcomp(x, rank. = min(components, ncol(x)))
  classes <- sort(unique(y))
  weights <- vapply(classes, function(class) binomial_fit(axes$x, as.numeric(y == class))$coefficients, numeric(ncol(axes$x) + 1))
  model <<- list(axes = axes, classes = classes, weights = weights, width = ncol(x))
  list(classes = I(as.integer(classes)), components = ncol(axes$x))
}

classify <- function(x) {
  if (is.null(model)) stop(mlports_failure("failed_precondition", "no model yet: call fit, or set config data"))
  x <- rows_of(x)
  if (ncol(x) != model$width) {
    told <- sprintf("rows of %d features, and the model has %d", ncol(x), model$width)
    stop(mlports_failure("invalid_argument", told))
  }
  scores <- cbind(1, predict(model$axes, x)) %*% model$weights
  as.list(as.integer(model$classes[max.col(scores, ties.method = "first")]))
}

worker$setup(function(config) {
  if (is.null(config$data)) return(NULL)
  table <- as.matrix(read.csv(config$data, header = FALSE))
  last <- ncol(table)
  model_of <- lapply(seq_len(nrow(table)), function(at) unname(table[at, -last]))
  train(model_of, unname(table[, last]), 20)
})

# Two classes, 0 and 1: the intercept and the coefficients, their standard errors, and the deviance.
worker$method("logistic", function(request, x, y) {
  x <- rows_of(x)
  y <- as.numeric(unlist(y))
  check_labels(x, y)
  if (!all(y %in% 0:1)) stop(mlports_failure("invalid_argument", "labels other than 0 and 1"))
  frame <- data.frame(y = y, x)
  fit <- glm(y ~ ., data = frame, family = binomial(), control = glm.control(1e-12, 100))
  table <- summary(fit)$coefficients
  list(
    intercept = unname(coef(fit)[[1]]), coefficients = I(unname(coef(fit)[-1])),
    errors = I(unname(table[, "Std. Error"])), deviance = deviance(fit), converged = fit$converged
  )
}, idempotent = TRUE)

worker$method("fit", function(request, x, y, components = 20) train(x, y, components), idempotent = TRUE)
worker$method("predict", function(request, x) classify(x), idempotent = TRUE)

worker$method("vote", function(request, record) {
  if (is.null(record$votes)) record$votes <- mlports_map()
  record$votes$r <- classify(record$x)
  record
}, idempotent = TRUE)

worker$run()
