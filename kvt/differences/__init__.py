"""What makes two runs differ.

One cause at a time, the errors of 2017, and from TensorFlow 1 to 2.
"""
