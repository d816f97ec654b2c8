"""Running the teacher over the views of a training set, and what is stored of its decisions."""
