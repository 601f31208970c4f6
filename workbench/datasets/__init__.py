"""Images and labels: generated shapes, folders, CIFAR-10, NumPy files, and how they are prepared."""
