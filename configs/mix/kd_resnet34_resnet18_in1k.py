# Logit distillation, as mmrazor ships it.
_base_ = 'mmrazor::distill/mmcls/kd/kd_logits_resnet34_resnet18_8xb32_in1k.py'

custom_imports = dict(imports=['mmkdlayer'], allow_failed_imports=False)
