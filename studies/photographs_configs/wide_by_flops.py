# A student alone that costs as many multiply-adds as ResNet-20 with letKD-2.
_base_ = './_alone_.py'

model = _base_.wide_by_flops
