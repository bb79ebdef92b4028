@echo off
rem Installs Quintet beside this file and runs the quickstart: double-click it.
rem TORCH_INDEX names another index for PyTorch, such as that of its builds for your CUDA.
setlocal
cd /d "%~dp0"

set "PYTHON=python"
where py >nul 2>nul && set "PYTHON=py -3"
%PYTHON% -c "import sys; sys.exit(sys.version_info < (3, 11))" || goto no_python

if exist .venv\Scripts\quintet.exe goto run
echo Installing Quintet in .venv (several minutes, in silence)
%PYTHON% -m venv .venv || goto failed
if not defined TORCH_INDEX goto install
.venv\Scripts\python -m pip install --disable-pip-version-check --quiet --index-url "%TORCH_INDEX%" "torch>=2.9,<2.14" || goto failed
:install
.venv\Scripts\python -m pip install --disable-pip-version-check --quiet --editable . || goto failed

:run
if "%~1"=="" (.venv\Scripts\quintet quickstart wrenfield) else (.venv\Scripts\quintet quickstart "%~1")
goto end

:no_python
echo Quintet needs Python 3.11 or newer: https://www.python.org/downloads/
goto end

:failed
echo Something went wrong; what it was stands above. Remove the folder .venv before you try again.

:end
rem A double-clicked window closes with its program: leave time to read.
pause
