# A student alone with as many parameters as ResNet-20 with letKD-2.
_base_ = './_alone_.py'

model = _base_.wide_by_parameters
