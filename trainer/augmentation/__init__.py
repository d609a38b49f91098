"""Random changes of training images, a whole batch at once, on the device where the batch is."""
