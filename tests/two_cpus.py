"""Runs a program as if the machine had two devices.

python tests/two_cpus.py SCRIPT ARGUMENTS
"""

import runpy
import sys

import tensorflow as tf

(cpu,) = tf.config.list_physical_devices("CPU")
half = tf.config.LogicalDeviceConfiguration()
tf.config.set_logical_device_configuration(cpu, [half, half])
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
