"""Bad input: one paragraph that names what is wrong, before any training step, exit code 2."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from command_line import CONFIG, Main, arguments, refused, write_images


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / 'work'


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (
            dict(model__distiller__kd_layers__inter__module='backbone.layer3.7'),
            ('no module "backbone.layer3.7"', 'backbone.layer3.0'),
        ),
        (
            dict(model__distiller__kd_layers__inter__teacher='backbone.layerr3.0'),
            ('teacher', 'no module "backbone.layerr3.0"', 'backbone.layer3.0'),
        ),
        (
            dict(model__distiller__kd_layers__inter__in_channels=12),
            ('kd_layers.inter.in_channels', '12', '16'),
        ),
        (
            dict(model__teacher_ckp='teacher.pth'),
            ('SingleTeacherDistill has no argument "teacher_ckp"', 'teacher_ckpt'),
        ),
        (
            dict(val_evaluator__topk='1,10'),
            ('(val_dataloader, val_evaluator) was tried', 'Top-10 accuracy is unavailable'),
        ),
        (dict(runner_type='FlexibleRunner'), ('runner_type=FlexibleRunner', 'Take both keys out')),
        (
            dict(model__teacher__data_preprocessor__pad_size_divisor=32),
            ('pad_size_divisor=32',),
        ),
        (
            dict(model__distiller__kd_layers__inter__num_templates=7),
            ('kd_layers.inter', 'num_templates follows from the decision'),
        ),
        (
            dict(model__distiller__kd_layers__inter__decision__num_classes=2),
            ('label', 'is 2', 'num_classes=2'),
        ),
        (
            dict(model__architecture__head__num_classes=2),
            ('head has num_classes=2', 'class_2/0.png is 2', 'labels must be 0 to 1'),
        ),
        (
            dict(model__distiller__kd_layers__inter__teacher='neck.gap'),
            (
                'model.distiller.kd_layers.inter.teacher',
                "map is (1, 1), smaller than the student's (4, 4)",
            ),
        ),
        (
            dict(model__distiller__kd_layers__penult__decision__num_centroids=5000),
            ('5000', '480'),
        ),
    ],
    ids=[
        *('module', 'recorder', 'channels', 'wrong key', 'metric', 'runner'),
        *('normalisation', 'templates'),
        'label',
        'head',
        'small map',
        'clusters',
    ],
)
def test_config_that_does_not_fit(
    main: Main, images: Path, work: Path, options: dict, words: tuple[str, ...]
) -> None:
    refused(main, work, arguments(CONFIG, '--work-dir', work, data=images, **options), *words)


def test_data_root_that_is_not_there(main: Main, work: Path, tmp_path: Path) -> None:
    line = arguments(CONFIG, '--work-dir', work, data=tmp_path / 'nowhere')
    refused(main, work, line, str(tmp_path / 'nowhere'), 'data_root')


def test_classes_that_differ_between_training_and_testing(
    main: Main, work: Path, tmp_path: Path
) -> None:
    data = write_images(tmp_path / 'data')
    gone = sorted((data / 'test').iterdir())[0]
    shutil.rmtree(gone)
    line = arguments(CONFIG, '--work-dir', work, data=data)
    refused(main, work, line, 'val_dataloader', f'missing: {gone.name}')


def test_images_without_class_folders(main: Main, work: Path, tmp_path: Path) -> None:
    for part in ('train', 'test'):
        (tmp_path / 'data' / part).mkdir(parents=True)
    line = arguments(CONFIG, '--work-dir', work, data=tmp_path / 'data')
    refused(main, work, line, 'a folder for each of the', 'found 0')


def test_teacher_file_that_is_not_there(main: Main, images: Path, work: Path) -> None:
    line = arguments(CONFIG, '--work-dir', work, data=images, model__teacher_ckpt='nowhere.pth')
    refused(main, work, line, 'nowhere.pth: there is no such file')


def test_work_dir_that_can_not_be_written(main: Main, images: Path, work: Path) -> None:
    work.write_text('a file, so no folder can be made here')
    line = arguments(CONFIG, '--work-dir', work / 'run', data=images)
    refused(main, work, line, 'must be writable', str(work))


def test_config_that_is_not_there(main: Main, work: Path, tmp_path: Path) -> None:
    refused(main, work, arguments(tmp_path / 'config.py', '--work-dir', work), 'no such file')


def test_empty_class(main: Main, work: Path, tmp_path: Path) -> None:
    data = write_images(tmp_path / 'data')
    for file in (data / 'train' / 'class_1').iterdir():
        file.unlink()
    refused(main, work, arguments(CONFIG, '--work-dir', work, data=data), 'class_1')


def test_teacher_checkpoint_of_another_network(
    main: Main, images: Path, work: Path, tmp_path: Path
) -> None:
    torch.save(
        {'state_dict': {'backbone.conv1.weight': torch.zeros(9, 3, 3, 3)}}, tmp_path / 't.pth'
    )
    line = arguments(
        CONFIG, '--work-dir', work, data=images, model__teacher_ckpt=tmp_path / 't.pth'
    )
    refused(main, work, line, 't.pth does not fit the teacher', '(9, 3, 3, 3)', '(4, 3, 3, 3)')


def test_teacher_checkpoint_that_is_truncated(
    main: Main, images: Path, work: Path, tmp_path: Path
) -> None:
    file = tmp_path / 'teacher.pth'
    torch.save(dict(state_dict={'weight': torch.zeros(1000)}), file)
    file.write_bytes(file.read_bytes()[:500])
    line = arguments(CONFIG, '--work-dir', work, data=images, model__teacher_ckpt=file)
    refused(main, work, line, 'teacher.pth', 'truncated')


def test_amp_with_another_optimizer_wrapper(main: Main, images: Path, work: Path) -> None:
    line = arguments(
        CONFIG, '--work-dir', work, '--amp', data=images, optim_wrapper__type='ApexOptimWrapper'
    )
    refused(main, work, line, '--amp expects optim_wrapper.type OptimWrapper', 'ApexOptimWrapper')


def test_compile_without_a_compiler(
    main: Main, images: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('mmengine.device.get_device', lambda: 'cpu')
    monkeypatch.setattr('shutil.which', lambda name: None)
    monkeypatch.setenv('CXX', 'some-c++')
    line = arguments(CONFIG, '--work-dir', work, data=images, compile=True)
    refused(main, work, line, 'C++ compiler', 'some-c++, clang++')


def test_timeout_that_is_not_positive(main: Main, images: Path, work: Path) -> None:
    line = arguments(
        CONFIG, '--work-dir', work, '--launcher', 'pytorch', '--dist-timeout', 0, data=images
    )
    code, errors = main('train.py', line)
    assert code == 2 and not work.exists()
    assert "argument --dist-timeout: expected a finite number above 0, but got '0'" in errors


def test_classes_from_a_folder_that_is_not_given(main: Main, work: Path) -> None:
    refused(main, work, arguments(CONFIG, '--work-dir', work), '--data-root')


def test_teacher_checkpoint_that_is_not_there(
    main: Main, images: Path, work: Path, tmp_path: Path
) -> None:
    line = arguments(
        CONFIG, '--work-dir', work, data=images, model__teacher_ckpt=tmp_path / 'none.pth'
    )
    refused(main, work, line, 'none.pth')


class TestStoredThings:
    """Decision files and checkpoints of an earlier run, used where they do not fit."""

    def given(self, name: str, file: Path) -> dict:
        return {f'model__distiller__kd_layers__{name}__decision__file': file}

    def test_truncated_decision(
        self, main: Main, images: Path, earlier: Path, work: Path, tmp_path: Path
    ) -> None:
        whole = (earlier / 'decisions' / 'inter.safetensors').read_bytes()
        file = tmp_path / 'cut.safetensors'
        file.write_bytes(whole[: len(whole) // 2])
        line = arguments(CONFIG, '--work-dir', work, data=images, **self.given('inter', file))
        refused(main, work, line, 'cut.safetensors', 'truncated')

    def test_decision_of_another_kind(
        self, main: Main, images: Path, earlier: Path, work: Path
    ) -> None:
        file = earlier / 'decisions' / 'penult.safetensors'
        line = arguments(CONFIG, '--work-dir', work, data=images, **self.given('inter', file))
        refused(main, work, line, 'SubclassDecision', 'CentroidDecision')

    def test_decision_of_another_teacher(
        self, main: Main, images: Path, earlier: Path, work: Path
    ) -> None:
        file = earlier / 'decisions' / 'inter.safetensors'
        options = dict(self.given('inter', file), randomness__seed=5)
        line = arguments(CONFIG, '--work-dir', work, data=images, **options)
        refused(main, work, line, 'fingerprint', str(file))

    def test_given_decision_is_used(
        self, main: Main, images: Path, earlier: Path, work: Path
    ) -> None:
        file = earlier / 'decisions' / 'inter.safetensors'
        line = arguments(CONFIG, '--work-dir', work, data=images, **self.given('inter', file))
        code, errors = main('train.py', line)
        assert code == 0, errors
        assert [f.name for f in (work / 'decisions').glob('[!.]*')] == ['penult.safetensors']

    def test_damaged_stored_decision_is_fitted_again(
        self, main: Main, images: Path, earlier: Path, work: Path
    ) -> None:
        shutil.copytree(earlier / 'decisions', work / 'decisions')
        file = work / 'decisions' / 'inter.safetensors'
        whole = file.read_bytes()
        file.write_bytes(whole[:100])
        code, errors = main('train.py', arguments(CONFIG, '--work-dir', work, data=images))
        assert code == 0, errors
        assert len(file.read_bytes()) == len(whole)

    def test_resume_from_another_network(
        self, main: Main, images: Path, earlier: Path, work: Path
    ) -> None:
        line = arguments(
            CONFIG,
            *('--work-dir', work, '--resume', earlier / 'epoch_1.pth'),
            data=images,
            model__distiller__kd_layers__penult__decision__num_centroids=9,
        )
        refused(main, work, line, 'start from', '(8, 16, 1, 1)', '(9, 16, 1, 1)')

    def test_latest_checkpoint_is_truncated(
        self, main: Main, images: Path, earlier: Path, work: Path
    ) -> None:
        work.mkdir()
        file = work / 'truncated'
        file.write_bytes((earlier / 'epoch_1.pth').read_bytes()[:5000])
        (work / 'last_checkpoint').write_text(str(file))
        line = arguments(CONFIG, '--work-dir', work, '--resume', data=images)
        refused(main, work, line, str(file), 'truncated, an incomplete download')

    def test_checkpoint_of_other_classes(
        self, main: Main, earlier: Path, work: Path, tmp_path: Path
    ) -> None:
        data = write_images(tmp_path / 'data')
        for split in ('train', 'test'):
            (data / split / 'class_0').rename(data / split / 'class_9')
        line = arguments(CONFIG, earlier / 'epoch_1.pth', '--work-dir', work, data=data)
        words = ('the checkpoint', 'epoch_1.pth', 'missing: class_0; unknown: class_9')
        refused(main, work, line, *words, tool='test.py')

    @pytest.mark.parametrize('tool', ['test.py', 'export_student.py'])
    def test_checkpoint_of_another_network(
        self, main: Main, images: Path, earlier: Path, work: Path, tool: str
    ) -> None:
        line = arguments(
            CONFIG,
            earlier / 'epoch_1.pth',
            *('--work-dir' if tool == 'test.py' else '--out', work),
            data=images,
            model__distiller__kd_layers__penult__decision__num_centroids=9,
            model__distiller__kd_layers__penult__alpha=0.25,
        )
        difference = 'model.kd_layers.penult.alpha is 0.25 here and was 1.0'
        refused(main, work, line, 'trained with another config', difference, tool=tool)
        line.append('--config-as-given')
        refused(main, work, line, 'does not fit the model', '(9, 16, 1, 1)', tool=tool)
